//! The rules of the puzzle world: primitive rules in families, and compositions of two.
//!
//! About a quarter of the primitives and most compositions are held out, each with a trained relative: a model
//! can learn such a rule from a few examples only if it knows the family. Two rules that do the same (a flip
//! and the other flip after half a turn) count as one: what a held-out rule does, no trained rule does.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A grid while rules work on it. Sides are not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cells {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) colours: Vec<u8>,
}

impl Cells {
    pub(super) fn build(height: usize, width: usize, mut colour: impl FnMut(usize, usize) -> u8) -> Cells {
        let mut colours = Vec::with_capacity(height * width);
        for row in 0..height {
            for column in 0..width {
                colours.push(colour(row, column));
            }
        }
        Cells { height, width, colours }
    }

    fn at(&self, row: usize, column: usize) -> u8 {
        self.colours[row * self.width + column]
    }

    fn map(&self, colour: impl Fn(u8) -> u8) -> Cells {
        Cells { colours: self.colours.iter().map(|&c| colour(c)).collect(), ..*self }
    }

    /// The same shape; cells for which `chosen` holds become `colour`.
    fn painted(&self, colour: u8, chosen: impl Fn(usize, usize) -> bool) -> Cells {
        Cells::build(self.height, self.width, |r, c| if chosen(r, c) { colour } else { self.at(r, c) })
    }

    /// The part from a corner; `None` when nothing is left.
    fn part(&self, top: usize, left: usize, height: usize, width: usize) -> Option<Cells> {
        (height > 0 && width > 0).then(|| Cells::build(height, width, |r, c| self.at(top + r, left + c)))
    }

    /// A larger grid of one colour with this one in it.
    fn inside(&self, colour: u8, height: usize, width: usize, top: usize, left: usize) -> Cells {
        Cells::build(height, width, |r, c| {
            let inside = (top..top + self.height).contains(&r) && (left..left + self.width).contains(&c);
            if inside { self.at(r - top, c - left) } else { colour }
        })
    }

    fn is_edge(&self, row: usize, column: usize) -> bool {
        row == 0 || column == 0 || row + 1 == self.height || column + 1 == self.width
    }

    fn is_corner(&self, row: usize, column: usize) -> bool {
        (row == 0 || row + 1 == self.height) && (column == 0 || column + 1 == self.width)
    }

    fn transposed(&self) -> Cells {
        Cells::build(self.width, self.height, |r, c| self.at(c, r))
    }

    fn rows_flipped(&self) -> Cells {
        Cells::build(self.height, self.width, |r, c| self.at(self.height - 1 - r, c))
    }

    fn columns_flipped(&self) -> Cells {
        Cells::build(self.height, self.width, |r, c| self.at(r, self.width - 1 - c))
    }

    /// Cells that are not 0 fall to the last row of their column.
    fn fallen(&self) -> Cells {
        let mut fallen = Cells { colours: vec![0; self.colours.len()], ..*self };
        for column in 0..self.width {
            let mut free = self.height;
            for row in (0..self.height).rev() {
                let colour = self.at(row, column);
                if colour != 0 {
                    free -= 1;
                    fallen.colours[free * self.width + column] = colour;
                }
            }
        }
        fallen
    }
}

/// A primitive rule.
pub(super) struct Primitive {
    pub(super) name: &'static str,
    /// How many colours it has as parameters.
    pub(super) colours: usize,
    held_out: bool,
    /// The rule; `None` where the grid is too small for it.
    apply: fn(&Cells, [u8; 2]) -> Option<Cells>,
}

const fn trained(
    name: &'static str,
    colours: usize,
    apply: fn(&Cells, [u8; 2]) -> Option<Cells>,
) -> Primitive {
    Primitive { name, colours, held_out: false, apply }
}

const fn held_out(
    name: &'static str,
    colours: usize,
    apply: fn(&Cells, [u8; 2]) -> Option<Cells>,
) -> Primitive {
    Primitive { name, colours, held_out: true, apply }
}

/// All primitives, family by family.
#[rustfmt::skip]
pub(super) const PRIMITIVES: &[Primitive] = &[
    // Around the edge.
    trained("shift_down", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| g.at((r + g.height - 1) % g.height, c)))),
    trained("shift_up", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| g.at((r + 1) % g.height, c)))),
    trained("shift_right", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| g.at(r, (c + g.width - 1) % g.width)))),
    held_out("shift_left", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| g.at(r, (c + 1) % g.width)))),
    // Over the edge.
    trained("push_down", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| if r == 0 { 0 } else { g.at(r - 1, c) }))),
    trained("push_left", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| if c + 1 == g.width { 0 } else { g.at(r, c + 1) }))),
    held_out("push_up", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| if r + 1 == g.height { 0 } else { g.at(r + 1, c) }))),
    // The symmetries of the square.
    trained("flip_rows", 0, |g, _| Some(g.rows_flipped())),
    trained("flip_columns", 0, |g, _| Some(g.columns_flipped())),
    trained("transpose", 0, |g, _| Some(g.transposed())),
    trained("rotate_90", 0, |g, _| Some(g.transposed().rows_flipped())),
    trained("rotate_180", 0, |g, _| Some(g.rows_flipped().columns_flipped())),
    held_out("rotate_270", 0, |g, _| Some(g.transposed().columns_flipped())),
    // Crops.
    trained("drop_first_row", 0, |g, _| g.part(1, 0, g.height - 1, g.width)),
    trained("drop_last_row", 0, |g, _| g.part(0, 0, g.height - 1, g.width)),
    trained("drop_first_column", 0, |g, _| g.part(0, 1, g.height, g.width - 1)),
    held_out("drop_last_column", 0, |g, _| g.part(0, 0, g.height, g.width - 1)),
    trained("core", 0, |g, _| g.part(1, 1, g.height.saturating_sub(2), g.width.saturating_sub(2))),
    // Borders.
    trained("border", 1, |g, [a, _]| Some(g.inside(a, g.height + 2, g.width + 2, 1, 1))),
    trained("pad", 0, |g, _| Some(g.inside(0, g.height + 2, g.width + 2, 1, 1))),
    trained("row_above", 1, |g, [a, _]| Some(g.inside(a, g.height + 1, g.width, 1, 0))),
    trained("column_left", 1, |g, [a, _]| Some(g.inside(a, g.height, g.width + 1, 0, 1))),
    held_out("row_below", 1, |g, [a, _]| Some(g.inside(a, g.height + 1, g.width, 0, 0))),
    // Parts painted.
    trained("frame", 1, |g, [a, _]| Some(g.painted(a, |r, c| g.is_edge(r, c)))),
    trained("first_row", 1, |g, [a, _]| Some(g.painted(a, |r, _| r == 0))),
    trained("first_column", 1, |g, [a, _]| Some(g.painted(a, |_, c| c == 0))),
    held_out("last_row", 1, |g, [a, _]| Some(g.painted(a, |r, _| r + 1 == g.height))),
    held_out("corners", 1, |g, [a, _]| Some(g.painted(a, |r, c| g.is_corner(r, c)))),
    trained("clear_core", 0, |g, _| Some(g.painted(0, |r, c| !g.is_edge(r, c)))),
    trained("clear_corners", 0, |g, _| Some(g.painted(0, |r, c| g.is_corner(r, c)))),
    held_out("clear_frame", 0, |g, _| Some(g.painted(0, |r, c| g.is_edge(r, c)))),
    // Gravity.
    trained("fall_down", 0, |g, _| Some(g.fallen())),
    trained("fall_up", 0, |g, _| Some(g.rows_flipped().fallen().rows_flipped())),
    trained("fall_right", 0, |g, _| Some(g.transposed().fallen().transposed())),
    held_out("fall_left", 0, |g, _| Some(g.columns_flipped().transposed().fallen().transposed().columns_flipped())),
    // Colours.
    trained("swap", 2, |g, [a, b]| Some(g.map(|c| if c == a { b } else if c == b { a } else { c }))),
    trained("replace", 2, |g, [a, b]| Some(g.map(|c| if c == a { b } else { c }))),
    trained("keep", 1, |g, [a, _]| Some(g.map(|c| if c == a { a } else { 0 }))),
    held_out("remove", 1, |g, [a, _]| Some(g.map(|c| if c == a { 0 } else { c }))),
    trained("fill", 1, |g, [a, _]| Some(g.map(|c| if c == 0 { a } else { c }))),
    trained("paint", 1, |g, [a, _]| Some(g.map(|c| if c == 0 { 0 } else { a }))),
    // Sizes.
    trained("upscale", 0, |g, _| Some(Cells::build(2 * g.height, 2 * g.width, |r, c| g.at(r / 2, c / 2)))),
    trained("taller", 0, |g, _| Some(Cells::build(2 * g.height, g.width, |r, c| g.at(r / 2, c)))),
    trained("wider", 0, |g, _| Some(Cells::build(g.height, 2 * g.width, |r, c| g.at(r, c / 2)))),
    trained("repeat_right", 0, |g, _| Some(Cells::build(g.height, 2 * g.width, |r, c| g.at(r, c % g.width)))),
    trained("repeat_both", 0, |g, _| Some(Cells::build(2 * g.height, 2 * g.width, |r, c| g.at(r % g.height, c % g.width)))),
    held_out("repeat_down", 0, |g, _| Some(Cells::build(2 * g.height, g.width, |r, c| g.at(r % g.height, c)))),
    trained("mirror_right", 0, |g, _| Some(Cells::build(g.height, 2 * g.width, |r, c| g.at(r, mirrored(c, g.width))))),
    trained("mirror_down", 0, |g, _| Some(Cells::build(2 * g.height, g.width, |r, c| g.at(mirrored(r, g.height), c)))),
    held_out("mirror_both", 0, |g, _| Some(Cells::build(2 * g.height, 2 * g.width, |r, c| g.at(mirrored(r, g.height), mirrored(c, g.width))))),
    // Rows exchanged.
    trained("exchange_rows", 0, |g, _| Some(Cells::build(g.height, g.width, |r, c| {
        g.at(if r == 0 { g.height - 1 } else if r + 1 == g.height { 0 } else { r }, c)
    }))),
];

fn mirrored(index: usize, side: usize) -> usize {
    if index < side { index } else { 2 * side - 1 - index }
}

/// No grid of the world is larger: the stride of its rows in positions allows no more.
pub(super) const SIDE_MAX: usize = 12;

/// One or two primitives by index, applied in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Shape {
    One(usize),
    Two(usize, usize),
}

/// A rule with its colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) shape: Shape,
    /// Two for each primitive; those that it does not take are ignored.
    pub(super) colours: [[u8; 2]; 2],
}

impl Rule {
    /// A rule with random colours, all different.
    pub(super) fn draw(shape: Shape, rng: &mut ChaCha8Rng) -> Rule {
        let mut colours = [0; 4];
        for place in 0..colours.len() {
            colours[place] = loop {
                let colour = rng.random_range(1..=9);
                if !colours[..place].contains(&colour) {
                    break colour;
                }
            };
        }
        Rule { shape, colours: [[colours[0], colours[1]], [colours[2], colours[3]]] }
    }

    /// The primitives with their colours.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&'static Primitive, &[u8; 2])> {
        let (first, second) = match self.shape {
            Shape::One(only) => (only, None),
            Shape::Two(first, second) => (first, Some(second)),
        };
        [Some(first), second].into_iter().flatten().map(|at| &PRIMITIVES[at]).zip(&self.colours)
    }

    /// The colours that the rule speaks of.
    pub(super) fn palette(&self) -> impl Iterator<Item = u8> {
        self.steps().flat_map(|(primitive, colours)| colours[..primitive.colours].iter().copied())
    }

    /// What the rule makes of a grid; `None` when it is too small for it or the result too large.
    pub(super) fn apply(&self, input: &Cells) -> Option<Cells> {
        let mut cells = input.clone();
        for (primitive, colours) in self.steps() {
            cells = (primitive.apply)(&cells, *colours)?;
        }
        (cells.height.max(cells.width) <= SIDE_MAX).then_some(cells)
    }

    /// The rule's name, as it is told to the model and shown to people.
    pub(super) fn name(&self) -> String {
        let steps = self.steps().map(|(primitive, colours)| {
            let colours = colours[..primitive.colours].iter().map(|colour| format!(" {colour}"));
            format!("{}{}", primitive.name, colours.collect::<String>())
        });
        steps.collect::<Vec<_>>().join(", then ")
    }
}

/// What a rule is tied to. Which augmentations help depends on it: turning a grid contradicts a rule that knows
/// left from right, and permuting colours contradicts a rule that knows red from blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleKind {
    /// Whether the rule differs from itself on turned and flipped grids.
    pub orientation_bound: bool,
    /// Whether the rule names colours (other than 0).
    pub colour_bound: bool,
}

/// The rules of the world by how they may be used.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) trained_primitives: Vec<Shape>,
    pub(super) trained_pairs: Vec<Shape>,
    /// What each trained rule is tied to.
    pub(super) trained_kinds: BTreeMap<Shape, RuleKind>,
    /// Held-out rules of the four kinds: primitives, and compositions.
    pub(super) held_out: [(RuleKind, Vec<Shape>, Vec<Shape>); 4],
}

/// Of the compositions of trained primitives, about two in five are trained.
fn is_trained_pair(first: usize, second: usize) -> bool {
    (first * 31 + second * 17) % 5 < 2
}

/// Grids that tell rules apart: square and not, with and without zeros.
fn probes() -> Vec<Cells> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    [(3, 3), (4, 4), (3, 5), (5, 3), (2, 4), (4, 2), (5, 5), (3, 4)]
        .into_iter()
        .map(|(height, width)| {
            Cells::build(height, width, |_, _| if rng.random_bool(0.3) { 0 } else { rng.random_range(1..=9) })
        })
        .collect()
}

/// With these colours rules are compared.
const PROBE_COLOURS: [[u8; 2]; 2] = [[1, 2], [3, 4]];

/// What a rule does to the probes, as one number; `None` for a rule that fits too few of them to be seen.
fn signature(shape: Shape, probes: &[Cells]) -> Option<u64> {
    let rule = Rule { shape, colours: PROBE_COLOURS };
    let results: Vec<Option<Cells>> = probes.iter().map(|probe| rule.apply(probe)).collect();
    if results.iter().flatten().count() < probes.len() / 2 {
        return None;
    }
    // DefaultHasher::new has fixed keys, and the number is compared within one process only.
    let mut hasher = DefaultHasher::new();
    results.hash(&mut hasher);
    Some(hasher.finish())
}

/// Whether a rule makes anything worth learning of the probes: not the same grid, not one colour throughout.
fn is_interesting(shape: Shape, probes: &[Cells]) -> bool {
    let rule = Rule { shape, colours: PROBE_COLOURS };
    let good = |probe: &Cells| {
        rule.apply(probe).is_some_and(|made| {
            made != *probe && made.colours.iter().any(|&colour| colour != made.colours[0])
        })
    };
    probes.iter().filter(|probe| good(probe)).count() > probes.len() / 2
}

fn kind(shape: Shape, probes: &[Cells]) -> RuleKind {
    let rule = Rule { shape, colours: PROBE_COLOURS };
    // A quarter turn and a flip make all eight symmetries; a rule that commutes with both commutes with all.
    let commutes = |turn: &dyn Fn(&Cells) -> Cells| {
        probes.iter().all(|probe| match (rule.apply(probe), rule.apply(&turn(probe))) {
            (Some(made), Some(made_of_turned)) => turn(&made) == made_of_turned,
            (None, None) => true,
            _ => false,
        })
    };
    let next_colour = |cells: &Cells| cells.map(|colour| if colour == 0 { 0 } else { colour % 9 + 1 });
    RuleKind {
        orientation_bound: !(commutes(&|g| g.transposed()) && commutes(&|g| g.rows_flipped())),
        colour_bound: !commutes(&next_colour),
    }
}

impl Rules {
    /// Sorts all rules into trained and held-out ones.
    pub(super) fn new() -> Rules {
        let probes = probes();
        let (held_out, trained): (Vec<usize>, Vec<usize>) =
            (0..PRIMITIVES.len()).partition(|&at| PRIMITIVES[at].held_out);
        let nothing = {
            let mut hasher = DefaultHasher::new();
            probes.iter().cloned().map(Some).collect::<Vec<_>>().hash(&mut hasher);
            hasher.finish()
        };
        let of_one = |&at: &usize| signature(Shape::One(at), &probes);
        let mut untrainable: BTreeSet<u64> = held_out.iter().filter_map(of_one).chain([nothing]).collect();
        let mut seen: BTreeSet<u64> = trained.iter().filter_map(of_one).collect();
        let pairs = |of: &[usize], with: &[usize]| -> Vec<Shape> {
            let all = of.iter().flat_map(|&first| with.iter().map(move |&second| (first, second)));
            all.filter(|(first, second)| first != second)
                .map(|(first, second)| Shape::Two(first, second))
                .collect()
        };

        let mut trained_pairs = Vec::new();
        let mut candidates = Vec::new();
        for shape in pairs(&trained, &trained) {
            let Shape::Two(first, second) = shape else { continue };
            let Some(signature) = signature(shape, &probes) else { continue };
            if !is_trained_pair(first, second) {
                candidates.push(shape);
            } else if is_interesting(shape, &probes)
                && !untrainable.contains(&signature)
                && seen.insert(signature)
            {
                trained_pairs.push(shape);
            }
        }
        candidates.extend(pairs(&held_out, &trained));
        candidates.extend(pairs(&trained, &held_out));

        let kinds = [(true, false), (true, true), (false, true), (false, false)]
            .map(|(orientation_bound, colour_bound)| RuleKind { orientation_bound, colour_bound });
        let mut sorted = kinds.map(|kind| (kind, Vec::new(), Vec::new()));
        let mut place = |shape: Shape, is_pair: bool| {
            let of = kind(shape, &probes);
            let (_, ones, twos) =
                sorted.iter_mut().find(|(kind, ..)| *kind == of).expect("the four kinds are all there are");
            if is_pair { twos.push(shape) } else { ones.push(shape) }
        };
        held_out.iter().for_each(|&at| place(Shape::One(at), false));
        for shape in candidates {
            let Some(signature) = signature(shape, &probes) else { continue };
            if is_interesting(shape, &probes) && !seen.contains(&signature) && untrainable.insert(signature) {
                place(shape, true);
            }
        }
        let trained_primitives: Vec<Shape> = trained.into_iter().map(Shape::One).collect();
        let trained_kinds = trained_primitives
            .iter()
            .chain(&trained_pairs)
            .map(|&shape| (shape, kind(shape, &probes)))
            .collect();
        Rules { trained_primitives, trained_pairs, trained_kinds, held_out: sorted }
    }

    /// Whether a rule of pretraining, with some colours, makes every output of its input.
    pub(super) fn explain(&self, pairs: &[(Cells, Cells)]) -> bool {
        self.trained_primitives.iter().chain(&self.trained_pairs).any(|&shape| {
            let colourless = Rule { shape, colours: [[0; 2]; 2] };
            let places: Vec<(usize, usize)> = colourless
                .steps()
                .enumerate()
                .flat_map(|(step, (primitive, _))| (0..primitive.colours).map(move |at| (step, at)))
                .collect();
            (0..9_usize.pow(places.len() as u32)).any(|mut code| {
                let mut colours = [[0; 2]; 2];
                for &(step, at) in &places {
                    colours[step][at] = (code % 9) as u8 + 1;
                    code /= 9;
                }
                let rule = Rule { shape, colours };
                pairs.iter().all(|(input, output)| rule.apply(input).as_ref() == Some(output))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_held_out_rule_does_what_a_trained_rule_does() {
        let (rules, probes) = (Rules::new(), probes());
        let trained: BTreeSet<_> = rules
            .trained_primitives
            .iter()
            .chain(&rules.trained_pairs)
            .map(|&shape| signature(shape, &probes))
            .collect();
        let mut held_out = 0;
        for (kind, ones, twos) in &rules.held_out {
            assert!(ones.len() + twos.len() >= 10, "{kind:?}: {ones:?} {twos:?}");
            for &shape in ones.iter().chain(twos) {
                held_out += 1;
                let signature = signature(shape, &probes);
                assert!(signature.is_some() && !trained.contains(&signature), "{shape:?}");
            }
        }
        assert_eq!(rules.trained_primitives.len(), 39);
        assert!(held_out > rules.trained_pairs.len());
    }

    #[test]
    fn kinds_are_as_the_names_say() {
        let probes = probes();
        let check = |name: &str, orientation_bound: bool, colour_bound: bool| {
            let at = PRIMITIVES.iter().position(|primitive| primitive.name == name).expect("a primitive");
            assert_eq!(kind(Shape::One(at), &probes), RuleKind { orientation_bound, colour_bound }, "{name}");
        };
        check("shift_left", true, false);
        check("last_row", true, true);
        check("swap", false, true);
        check("corners", false, true);
        check("rotate_180", false, false);
        check("mirror_both", true, false);
        check("clear_frame", false, false);
        check("fall_left", true, false);
        check("rotate_90", true, false);
    }
}
