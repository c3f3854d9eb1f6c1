//! What a line says of when its event was: its own time where it prints one, else only which event of the load it is.

use super::super::rivals::{self, Rival};

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;

/// Who wrote the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printer {
    /// `watch --format json`.
    Json,
    /// `watch`.
    Text,
    /// Another tool.
    Rival(Rival),
}

/// What is read from a line about a change of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// From the event to now, in nanoseconds.
    pub age_ns: Option<u64>,
    /// It is one of those by which connections are counted.
    pub counts: bool,
}

/// Both clocks, when the line was there to be read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Boot-time clock, in nanoseconds.
    pub boot_ns: u64,
    /// Time of day, UTC, in nanoseconds.
    pub day_ns: u64,
}

impl Printer {
    /// How many lines, of those that count, it owes for a connection.
    pub fn counting_lines(self) -> usize {
        match self {
            Self::Rival(Rival::Tcplife) => 2,
            _ => 1,
        }
    }

    /// Nothing if the line is not about a change of state of the load. `ports`: where the load listens; ours is filtered.
    pub fn read(self, line: &[u8], now: Now, ports: &[Vec<u8>]) -> Option<Line> {
        // In text much is found faster than in bytes; none of these writes anything else.
        let text = std::str::from_utf8(line).ok()?;
        match self {
            Self::Json => {
                // What no event told is known later.
                let is_event =
                    text.contains("\"type\":\"transition\",") && text.contains("\"inferred\":false");
                let ns = is_event.then(|| number_after(text, "\"mono_ns\":")).flatten()?;
                Some(Line { age_ns: Some(now.boot_ns.saturating_sub(ns)), counts: false })
            }
            Self::Text => {
                let ns = time_of_day(text)?;
                // The first waits for what explains it; what no event told is known later.
                if [" closed: ", "(inferred", ": no event tells)"].iter().any(|part| text.contains(part)) {
                    return None;
                }
                // Midnight may be between the two.
                let age_ns = (now.day_ns + DAY_NS - ns) % DAY_NS;
                Some(Line { age_ns: Some(age_ns), counts: text.contains("-> SYN_SENT") })
            }
            Self::Rival(rival) => {
                if !rivals::is_about(line, ports) {
                    return None;
                }
                Some(match rival {
                    Rival::Tcpstates => Line { age_ns: None, counts: text.contains("-> SYN_SENT") },
                    Rival::Tcplife => Line { age_ns: None, counts: true },
                    Rival::Bpftrace => {
                        let age_ns = number_after(text, "").map(|ns| now.boot_ns.saturating_sub(ns));
                        // TCP_SYN_SENT is 2.
                        Line { age_ns, counts: text.ends_with("-> 2") }
                    }
                })
            }
        }
    }
}

fn number_after(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(name)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `12:00:00.123`, in nanoseconds of the day.
fn time_of_day(line: &str) -> Option<u64> {
    let (time, ms) = line.get(..12)?.split_once('.')?;
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let ms: u64 = ms.parse().ok()?;
    Some((((hours * 60 + minutes) * 60 + seconds) * 1000 + ms) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { boot_ns: 1_000_500, day_ns: 3_600_000_000_000 };

    fn read(printer: Printer, line: &str) -> Option<Line> {
        printer.read(line.as_bytes(), NOW, &[b"36001".to_vec()])
    }

    #[test]
    fn ours_print_when_it_was() {
        let json = r#"{"v":1,"type":"transition","time":"…","mono_ns":1000000,"old":"CLOSE","new":"SYN_SENT","inferred":false}"#;
        assert_eq!(read(Printer::Json, json), Some(Line { age_ns: Some(500), counts: false }));
        assert_eq!(read(Printer::Json, &json.replace("transition", "close")), None);
        assert_eq!(read(Printer::Json, &json.replace("false", "true")), None);
        let text = "00:59:59.998 127.0.0.1:0 -> 127.0.0.1:36001   xtask/7   CLOSE       -> SYN_SENT";
        assert_eq!(read(Printer::Text, text), Some(Line { age_ns: Some(2_000_000), counts: true }));
        let before = "01:00:00.001 127.0.0.1:0 -> 127.0.0.1:36001   xtask/7   SYN_SENT    -> ESTABLISHED";
        assert_eq!(read(Printer::Text, before).and_then(|line| line.age_ns), Some(DAY_NS - 1_000_000));
        let others = [
            "TIME         LOCAL -> REMOTE",
            "00:59:59.998 a -> b   closed: in order",
            "00:59:59.998 a -> b   FIN_WAIT2   -> TIME_WAIT  (inferred)",
            "",
        ];
        for other in others {
            assert_eq!(read(Printer::Text, other), None, "{other}");
        }
    }

    #[test]
    fn others_are_counted() {
        let states = "ffff 7 xtask 127.0.0.1 0 127.0.0.1 36001 CLOSE       -> SYN_SENT    0.000";
        let of = |rival| move |line: &str| read(Printer::Rival(rival), line);
        let counted = Line { age_ns: None, counts: true };
        assert_eq!(of(Rival::Tcpstates)(states), Some(counted));
        assert_eq!(
            of(Rival::Tcpstates)(&states.replace("SYN_SENT", "LAST_ACK")).map(|it| it.counts),
            Some(false)
        );
        assert_eq!(of(Rival::Tcpstates)(&states.replace("36001", "443")), None);
        assert_eq!(of(Rival::Tcplife)("7 xtask 127.0.0.1 36001 127.0.0.1 4 0.06 0.06 0.05"), Some(counted));
        let line = "1000100 7 xtask 127.0.0.1 0 127.0.0.1 36001 7 -> 2";
        assert_eq!(of(Rival::Bpftrace)(line), Some(Line { age_ns: Some(400), counts: true }));
    }
}
