//! The laws that an answer shows by itself: no further call is needed.

use std::collections::HashSet;

use selkie_edit::Task;

use super::{BrokenLaw, Law};
use crate::manifest::{Laws, Shape};
use crate::work::{Batch, Made, Work};

/// The law that an answer to a batch breaks, if it does.
pub(crate) fn broken(laws: &Laws, batch: &Batch<'_>, made: &Made) -> Option<BrokenLaw> {
    let found = laws.declared().find_map(|law| Some((law, found(law, laws, batch.work, made)?)));
    found.map(|(law, found)| BrokenLaw::new(law, batch, &found))
}

/// What is wrong with an answer by one law; nothing, if the law is of another kind.
pub(super) fn found(law: Law, laws: &Laws, work: Work<'_>, made: &Made) -> Option<String> {
    match (work, made) {
        (Work::Tasks(sent), Made::Tasks(made)) => found_in_tasks(law, laws, sent, made),
        (Work::Sources(_), Made::Documents(made)) if law == Law::ItemsMax => {
            let most = laws.items_max? as usize;
            let (at, many) = made.iter().enumerate().find(|(_, documents)| documents.len() > most)?;
            Some(format!("{} documents for source {at}, at most {most} are promised", many.len()))
        }
        _ => None,
    }
}

fn found_in_tasks(law: Law, laws: &Laws, sent: &[Task], made: &[Task]) -> Option<String> {
    match law {
        Law::Shape => {
            let swapped = laws.shape? == Shape::Swapped;
            let known: HashSet<Sides> = sent.iter().map(|task| sides(task, swapped)).collect();
            let stray = made.iter().position(|task| !known.contains(&sides(task, false)))?;
            let shapes = if swapped { "swapped" } else { "preserved" };
            Some(format!("the shapes of task {stray} are not {shapes} from any task of the batch"))
        }
        Law::GrowthMax => {
            let most = longest(sent) * u32::from(laws.growth_max.unwrap_or(u16::MAX));
            let found = longest(made);
            (found > most).then(|| format!("a side of {found}, at most {most} is promised"))
        }
        Law::PaletteClosed => {
            let known = colours(sent);
            let stray = made.iter().position(|task| colours([task]) & !known != 0)?;
            let new = (colours(&made[stray..=stray]) & !known).trailing_zeros();
            Some(format!("task {stray} has the colour {new}, which no task of the batch has"))
        }
        Law::ItemsMax => {
            let most = sent.len().saturating_mul(laws.items_max? as usize);
            let (found, sent) = (made.len(), sent.len());
            (found > most).then(|| format!("{found} tasks made of {sent}, at most {most} are promised"))
        }
        _ => None,
    }
}

/// The sides of a task's grids, in an order that does not depend on the order of its demonstrations.
type Sides = Vec<[u8; 4]>;

fn sides(task: &Task, swapped: bool) -> Sides {
    let of = |example: &selkie_edit::Example| {
        let (input, output) = (&example.input, &example.output);
        let [a, b] = [(input.height(), input.width()), (output.height(), output.width())];
        if swapped { [a.1, a.0, b.1, b.0] } else { [a.0, a.1, b.0, b.1] }
    };
    let mut sides: Sides = task.train.iter().map(of).collect();
    sides.sort_unstable();
    sides.push(of(&task.test));
    sides
}

fn longest(tasks: &[Task]) -> u32 {
    let grids = tasks.iter().flat_map(Task::grids);
    grids.map(|grid| u32::from(grid.height().max(grid.width()))).max().unwrap_or(0)
}

/// The colours that occur, a bit each. A grid is searched for the colours that have not occurred yet: a byte is
/// found in a slice many times as fast as all bytes are looked at.
fn colours<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> u16 {
    let mut found = 0;
    for grid in tasks.into_iter().flat_map(Task::grids) {
        for colour in 0..10 {
            if found & (1 << colour) == 0 && grid.cells().contains(&colour) {
                found |= 1 << colour;
            }
        }
    }
    found
}
