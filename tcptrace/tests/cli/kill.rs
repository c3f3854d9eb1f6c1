//! What `kill` refuses; what it does is in tests/kill.

use crate::refused::{HELP, PORTS, TIMES};

/// Arguments that are refused, and words that the message has.
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["kill"], &["which sockets?", "--state", "--flow"]),
    (&["kill", "--yes"], &["which sockets?", "for example: tcptrace kill "]),
    (&["kill", "--older-than", "5m", "--netns", "1"], &["which sockets?"]),
    (&["kill", "eth0"], &["'eth0'", HELP]),
    (&["kill", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["kill", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["kill", "--state", "close"], &["--state CLOSE", "no connection"]),
    (&["kill", "--port", "1", "--older-than", "0"], &["--older-than", "\"0\"", TIMES]),
    (&["kill", "--port", "1", "--older-than", "-5m"], &["--older-than", "\"-5m\"", TIMES]),
    (&["kill", "--port", "1", "--older-than", "5d"], &["--older-than", "\"5d\"", TIMES]),
    (&["kill", "--flow", "0"], &["--flow", "\"0\"", "is not a cookie", "sk:1267"]),
    (&["kill", "--flow", "1a2b"], &["--flow", "\"1a2b\"", "is not a cookie"]),
    (&["kill", "--flow", "sk:xyz"], &["--flow", "\"sk:xyz\"", "is not a cookie"]),
    (&["kill", "--flow", "18446744073709551615"], &["--flow", "is not a cookie"]),
    (&["kill", "--flow", "1,"], &["--flow", "is not a cookie"]),
    (&["kill", "--port", "1", "--max", "0"], &["--max", "\"0\"", "valid are 1 and more"]),
    (&["kill", "--port", "1", "--max", "-1"], &["--max", "\"-1\"", "valid are 1 and more"]),
    (&["kill", "--port", "1", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (&["kill", "--port", "1", "--netns", "1", "--all-netns"], &["--netns", "cannot be used with"]),
    (&["kill", "--port", "1", "--audit"], &["--audit", "a value is required"]),
    (
        &["kill", "--port", "1", "--yes", "--audit", "/no/such/file"],
        &["cannot audit: /no/such/file: No such"],
    ),
    (&["kill", "--port", "1", "--yes", "--audit", ""], &["--audit"]),
    (&["kill", "--format", "xml"], &["--format", "'xml'", "text, json"]),
];
