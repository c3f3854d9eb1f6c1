//! What a dump came to, for people: on standard error, because it is no event.

use crate::{
    run::report::{Resync, Why},
    tell,
};

/// Says it where there is something to say.
pub fn tell(resync: &Resync) {
    let found = &resync.reconciled;
    match resync.why {
        Why::Start if found.found > 0 => {
            let sockets = if found.found == 1 { "socket was" } else { "sockets were" };
            tell!("{} {sockets} there already (--only sights shows them)", found.found);
        }
        Why::Start => {}
        Why::Lost | Why::Asked | Why::Timer | Why::End => {
            let changed = found.corrected + found.vanished;
            if changed > 0 {
                tell!(
                    "asked the kernel for its {} sockets: {} states corrected, {} connections gone unseen",
                    found.sockets,
                    found.corrected,
                    found.vanished
                );
            }
        }
    }
}
