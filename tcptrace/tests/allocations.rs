//! Where as many connections end as begin, nothing is allocated for an event, from its record to its line.
#![allow(clippy::expect_used)] // of the benchmark's module

#[path = "../benches/steady/mod.rs"]
mod steady;

#[test]
fn nothing_is_allocated_for_an_event() {
    let stages = steady::stages();
    assert_eq!(stages.len(), 5);
    for counted in stages {
        assert!(counted.events > 40_000, "{}: {counted:?}", counted.stage);
        assert_eq!(counted.allocations, 0, "{}: {counted:?}", counted.stage);
    }
}
