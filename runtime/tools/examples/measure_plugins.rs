//! How long the built-in plugins take to load, and what a warm batch costs.
#![expect(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_tools::{HostOptions, ToolHost};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..3 {
        let start = Instant::now();
        let host = ToolHost::new(HostOptions::new(None))?;
        println!("load {:?}", start.elapsed());
        let cells = (0..900).map(|cell| (cell % 10) as u8).collect();
        let grid = Grid::new(30, 30, cells)?;
        let example = Example { input: grid.clone(), output: grid };
        // A task without demonstrations has two grids.
        let tasks = vec![Task { train: vec![], test: example }; 500];
        let plugin = host.catalogue().get("grid.rotate").ok_or("no grid.rotate")?.plugin.clone();
        let call =
            PlannedCall { tool: "grid.rotate".into(), plugin, params: r#"{"degrees":90}"#.into(), seed: 0 };
        for _ in 0..5 {
            let start = Instant::now();
            let made = host.augment(&call, &tasks)?;
            println!("1,000 rotations of 30x30 {:?}, fuel {}", start.elapsed(), made.fuel);
        }
    }
    Ok(())
}
