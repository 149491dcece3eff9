//! `selkie rollback`.

use std::process::ExitCode;

use selkie_store::{Reader, RollbackTo, Store};

use crate::args::RollbackArgs;
use crate::error::CommandError;
use crate::settings;

/// Moves the active pointer.
pub(crate) fn run(args: &RollbackArgs) -> Result<ExitCode, CommandError> {
    let home = settings::home(&args.home);
    // A home that is not there is an error here: opening it for writing would make it.
    drop(Store::read_only(&home)?);
    let mut store = Store::open(&home)?;
    let (to, base) = match args.to.as_deref() {
        None => (RollbackTo::Parent, base(&store, args.base.as_deref())?),
        Some("base") => (RollbackTo::Base, base(&store, args.base.as_deref())?),
        Some(name) => {
            let generation = store.find_generation(name)?;
            (RollbackTo::Generation(generation.id), generation.base_digest)
        }
    };
    let (entry, rollback) = store.rollback(&base, to, settings::now_ms())?;
    let name =
        |id: Option<selkie_store::GenerationId>| id.map_or("the base model".to_owned(), |id| id.to_string());
    super::print(&format!("{entry}: active was {}, now {}\n", name(rollback.from), name(rollback.to)))?;
    Ok(ExitCode::SUCCESS)
}

/// The base model whose pointer is moved: the one that is named, or the only one there is.
fn base(reader: &Reader, wanted: Option<&str>) -> Result<String, CommandError> {
    let mut bases: Vec<String> = reader.actives()?.into_iter().map(|active| active.base_digest).collect();
    bases.retain(|base| wanted.is_none_or(|wanted| base.starts_with(wanted)));
    match &bases[..] {
        [base] => Ok(base.clone()),
        [] => Err(CommandError::input("no generation is active, so there is nothing to roll back")),
        several => {
            let short: Vec<&str> = several.iter().map(|base| &base[..12]).collect();
            Err(CommandError::input("generations of several base models are active")
                .hint(format!("name a generation, or one base with --base: {}", short.join(", "))))
        }
    }
}
