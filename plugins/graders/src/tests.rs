//! What holds for every grader, on answers, grids and self-edits drawn from awkward pieces.

use selkie_sdk::{Edit, Grader, Grid, Rng, Score, Submission, run_grader};

use crate::*;

const PIECES: [&str; 24] = [
    "the",
    "a",
    "Eiffel",
    "Tower",
    "two",
    "hundred",
    "and",
    "5",
    "1,200",
    "-3.5",
    "$",
    "%",
    ".",
    "–",
    "İ",
    "ß",
    "Ⅷ",
    "🦀",
    "million",
    "0",
    "\u{300}",
    "999999999999999999999999999999999999999999",
    "1.2.3",
    "\n",
];

fn text(rng: &mut Rng) -> String {
    let words: Vec<&str> = (0..rng.below(6)).map(|_| PIECES[rng.below(PIECES.len())]).collect();
    words.join(if rng.below(3) == 0 { "" } else { " " })
}

fn grid(rng: &mut Rng) -> Grid {
    let (height, width) = (1 + rng.below(2), 1 + rng.below(2));
    Grid::build(height, width, |_, _| rng.below(2) as u8).expect("a grid")
}

fn value<G: Grader>(submission: &Submission) -> f64 {
    let Score { value, reasons } =
        run_grader::<G>("{}", vec![submission.clone()]).expect("a score").remove(0);
    assert!((0.0..=1.0).contains(&value), "{}: {value} for {submission:?}", G::NAME);
    assert!(reasons.iter().all(|reason| !reason.contains('\n')), "{reasons:?}");
    value
}

fn swapped(submission: &Submission) -> Submission {
    match submission.clone() {
        Submission::Answers { left, right } => Submission::Answers { left: right, right: left },
        Submission::Grids { left, right } => Submission::Grids { left: right, right: left },
        edit => edit,
    }
}

fn two_sided<G: Grader>(different: &Submission, equal: &Submission) {
    let score = value::<G>(different);
    assert_eq!(score, value::<G>(&swapped(different)), "{} {different:?}", G::NAME);
    assert_eq!(value::<G>(equal), 1.0, "{} {equal:?}", G::NAME);
}

#[test]
fn two_sides_may_be_swapped_and_equal_ones_score_1() {
    let mut rng = Rng::new(0);
    for _ in 0..3_000 {
        let (left, right) = (text(&mut rng), text(&mut rng));
        let equal = Submission::Answers { left: left.clone(), right: left.clone() };
        let different = Submission::Answers { left, right };
        two_sided::<ExactMatch>(&different, &equal);
        two_sided::<TokenF1>(&different, &equal);
        two_sided::<ContainedMatch>(&different, &equal);
        two_sided::<Numeric>(&different, &equal);
        let (left, right) = (grid(&mut rng), grid(&mut rng));
        let equal = Submission::Grids { left: left.clone(), right: left.clone() };
        two_sided::<GridMatch>(&Submission::Grids { left, right }, &equal);
    }
}

#[test]
fn a_rubric_is_between_0_and_1_whatever_the_edit() {
    let mut rng = Rng::new(1);
    for _ in 0..3_000 {
        let documents = (0..rng.below(4)).map(|_| text(&mut rng)).collect();
        let passage = [text(&mut rng), text(&mut rng)].join(". ");
        value::<Rubric>(&Submission::Edit(Edit { title: text(&mut rng), passage, documents }));
    }
}
