//! Prints a context that pup never saw, as `selkie adapt` reads it: `held_out facts 3` or `held_out puzzles 7`.

#![expect(clippy::print_stdout, reason = "a program that prints a file")]

use selkie_edit::Context;
use selkie_learn::pup::facts::FactWorld;
use selkie_learn::pup::puzzles::PuzzleWorld;

/// The seed that the bundled models were pretrained with: only its worlds hold these contexts out.
const SEED: u64 = 1;

fn main() {
    let mut args = std::env::args().skip(1);
    let (world, index) = (args.next(), args.next().and_then(|index| index.parse().ok()));
    let context = match (world.as_deref(), index) {
        (Some("facts"), Some(index)) => Context::Passage(FactWorld::new(SEED).held_out_passage(index)),
        (Some("puzzles"), Some(index)) => Context::Puzzle(PuzzleWorld::new(SEED).held_out_puzzle(index, 1)),
        _ => {
            eprintln!("usage: held_out facts|puzzles INDEX");
            std::process::exit(2);
        }
    };
    println!("{}", context.to_json());
}
