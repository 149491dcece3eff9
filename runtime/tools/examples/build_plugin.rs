//! Builds plugins without the command line: `dist` makes `plugins/dist` anew, `verify` compares it, a folder's
//! path builds that crate.
#![expect(clippy::print_stdout, reason = "a program")]

use std::path::Path;

use selkie_tools::build;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/dist");
    match std::env::args().nth(1).as_deref() {
        Some("dist") => println!("{:#?}", build::write_dist(&dist, &["grid", "text", "graders", "judge"])?),
        Some("verify") => println!("{:#?}", build::verify_dist(&dist)?),
        Some(dir) => println!("{:#?}", build::build(Path::new(dir), None)?),
        None => return Err("usage: build_plugin dist | verify | DIR".into()),
    }
    Ok(())
}
