//! Whether an answer keeps the laws that its tool's manifest declares.

use std::collections::HashSet;

use selkie_edit::Task;

use crate::manifest::{Laws, Shape};

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

/// What is wrong with `made`, if a law is broken.
pub(crate) fn broken(laws: Laws, sent: &[Task], made: &[Task]) -> Option<String> {
    match laws.shape? {
        Shape::Bounded => {
            let most = longest(sent) * u32::from(laws.growth_max.unwrap_or(u16::MAX));
            let found = longest(made);
            (found > most).then(|| format!("a side of {found} breaks its law: at most {most}"))
        }
        shape => {
            let swapped = shape == Shape::Swapped;
            let known: HashSet<Sides> = sent.iter().map(|task| sides(task, swapped)).collect();
            let stray = made.iter().position(|task| !known.contains(&sides(task, false)))?;
            let law = if swapped { "swapped" } else { "preserved" };
            Some(format!("task {stray} breaks its law: shapes are {law}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use selkie_edit::{Example, Grid};

    use super::*;

    fn task(height: u8, width: u8) -> Task {
        let cells = vec![0; usize::from(height) * usize::from(width)];
        let grid = Grid::new(height, width, cells).expect("a grid");
        let example = Example { input: grid.clone(), output: grid };
        Task { train: vec![example.clone()], test: example }
    }

    fn keeps(shape: Shape, growth_max: Option<u16>, made: Task) -> bool {
        let laws = Laws { deterministic: true, shape: Some(shape), growth_max };
        broken(laws, &[task(2, 3)], &[made]).is_none()
    }

    #[test]
    fn each_law_accepts_what_it_says_and_nothing_else() {
        assert!(keeps(Shape::Preserved, None, task(2, 3)));
        assert!(!keeps(Shape::Preserved, None, task(3, 2)));
        assert!(keeps(Shape::Swapped, None, task(3, 2)));
        assert!(!keeps(Shape::Swapped, None, task(2, 3)));
        assert!(keeps(Shape::Bounded, Some(2), task(6, 6)));
        assert!(!keeps(Shape::Bounded, Some(2), task(1, 7)));
    }
}
