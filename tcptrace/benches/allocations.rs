//! What is allocated for an event, stage by stage: `cargo bench -p tcptrace --bench allocations`.
#![allow(clippy::expect_used)] // what goes wrong ends the benchmark

mod steady;

fn main() {
    println!("{:<12} {:>10} {:>12} {:>10}", "stage", "events", "allocations", "an event");
    for counted in steady::stages() {
        let each = counted.allocations as f64 / counted.events as f64;
        println!("{:<12} {:>10} {:>12} {each:>10.4}", counted.stage, counted.events, counted.allocations);
    }
}
