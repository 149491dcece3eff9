//! Greedy decoding and teacher-forced scoring are one thing; sampling is seeded and keeps its limits.

use std::collections::HashSet;

use rand::Rng;
use selkie_edit::{Grid, Projection};

use super::support::{FAMILIES, VOCAB, adapter, config, decoder, lora, rng, sequence};
use crate::config::{Family, ModelConfig};
use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::pup::render::{Places, Prompt, PuzzleCodec};
use crate::sample::{StopReason, generate};
use crate::sampler::SamplingSettings;
use crate::score::{score, token_logits};
use crate::sequence::Sequence;

fn counted(ids: &[u32]) -> Prompt {
    let len = ids.len() as u32;
    let (places, positions) = (Places::Counted(len), (0..len).collect());
    Prompt { text: String::new(), ids: ids.to_vec(), positions, places, end: 0 }
}

/// Decodes a prompt without stops.
fn continued(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    prompt: &Prompt,
    sampling: SamplingSettings,
    max: usize,
) -> Vec<u32> {
    let mut known = prompt.positions.clone().into_iter();
    let mut places = prompt.places.clone();
    let position_of = |id| known.next().unwrap_or_else(|| places.push(id));
    let (ids, stop) = generate(decoder, adapter, &prompt.ids, position_of, sampling, &[], max).unwrap();
    assert_eq!((ids.len(), stop), (max, StopReason::Length));
    ids
}

/// The greedy continuation is an exact match; with any one token changed it is not.
fn check_exact_match(what: &str, decoder: &Decoder, adapter: Option<&Adapter>, prompt: &Prompt, seed: u64) {
    let gold = continued(decoder, adapter, prompt, SamplingSettings::GREEDY, 12);
    let vocab = decoder.config().vocab_size as u32;
    let mut rng = rng(seed);
    let mut items = vec![prompt.with(&gold)];
    for at in 0..gold.len() {
        let mut wrong = gold.clone();
        wrong[at] = (wrong[at] + rng.random_range(1..vocab)) % vocab;
        items.push(prompt.with(&wrong));
    }
    items.push(prompt.with(&gold[..5]));
    let scores = score(decoder, adapter, &items).unwrap();
    let greedy: Vec<bool> = scores.iter().map(|score| score.greedy).collect();
    let mut expected = vec![false; items.len()];
    (expected[0], expected[gold.len() + 1]) = (true, true);
    assert_eq!(greedy, expected, "{what}: {gold:?}");
    assert!(scores.iter().all(|score| score.log_prob < 0.0));
    assert_eq!((scores[0].tokens, scores[gold.len() + 1].tokens), (12, 5));
}

#[test]
fn exact_match_in_one_pass_is_greedy_decoding() {
    let mut changed = 0;
    for seed in 0..24 {
        let (family, tied) = FAMILIES[seed as usize % FAMILIES.len()];
        let config = config(family, tied);
        let decoder = decoder(&config, seed);
        let prompt = counted(&sequence(&mut rng(seed), 1 + seed as usize % 7, 0).ids);
        check_exact_match(&format!("seed {seed}"), &decoder, None, &prompt, seed);
        let adapter = adapter(&config, &lora(2, &Projection::ALL), seed);
        check_exact_match(&format!("seed {seed}, adapted"), &decoder, Some(&adapter), &prompt, seed);
        let said = |adapter| continued(&decoder, adapter, &prompt, SamplingSettings::GREEDY, 12);
        changed += usize::from(said(None) != said(Some(&adapter)));
    }
    assert!(changed > 16, "the adapter changed what is said {changed} times out of 24");
}

#[test]
fn exact_match_is_greedy_decoding_with_positions_of_two_dimensions() {
    let codec = PuzzleCodec::new();
    let vocab_size = crate::pup::puzzles::vocabulary().tokenizer().get_vocab_size(true);
    for seed in 0..8 {
        let config = ModelConfig { vocab_size, max_positions: 4096, ..config(Family::Llama, true) };
        let decoder = decoder(&config, seed);
        let mut rng = rng(seed);
        let (height, width) = (rng.random_range(1..5), rng.random_range(1..5));
        let cells = (0..height * width).map(|_| rng.random_range(0..10)).collect();
        let prompt = codec.test_prompt(&Grid::new(height, width, cells).unwrap());
        assert!(prompt.positions.windows(2).any(|pair| pair[1] > pair[0] + 1));
        check_exact_match(&format!("seed {seed}"), &decoder, None, &prompt, seed);
        let adapter = adapter(&config, &lora(2, &Projection::ALL), seed);
        check_exact_match(&format!("seed {seed}, adapted"), &decoder, Some(&adapter), &prompt, seed);
    }
}

#[test]
fn a_score_is_the_sum_of_log_probabilities() {
    let decoder = decoder(&config(Family::Qwen3, false), 1);
    let mut rng = rng(3);
    let mut items: Vec<Sequence> =
        [(9, 3), (4, 4), (6, 1)].map(|(len, last)| sequence(&mut rng, len, last)).to_vec();
    items.insert(1, Sequence::default());
    // Nothing to say is said right.
    items.push(sequence(&mut rng, 5, 0));
    let scores = score(&decoder, None, &items).unwrap();
    for (item, score) in items.iter().zip(&scores) {
        let mut expected = 0.0;
        if !item.is_empty() {
            let logits =
                token_logits(&decoder, None, &item.ids, &item.positions).unwrap().to_vec2::<f32>().unwrap();
            for at in (1..item.len()).filter(|&at| item.labelled[at]) {
                let total: f64 = logits[at - 1].iter().map(|&logit| f64::from(logit).exp()).sum();
                expected += f64::from(logits[at - 1][item.ids[at] as usize]) - total.ln();
            }
        }
        assert!((score.log_prob - expected).abs() < 1e-4, "{score:?}, expected {expected}");
        assert_eq!(score.tokens, item.labelled_count());
    }
    assert_eq!(scores.iter().map(|score| score.tokens).collect::<Vec<_>>(), [3, 0, 3, 1, 0]);
    assert!(scores[1].greedy && scores[4].greedy);
}

#[test]
fn scores_do_not_depend_on_how_items_are_split_into_passes() {
    // More rows than one pass takes, and one item that is larger than a pass.
    let config = ModelConfig { layers: 1, ..config(Family::Llama, true) };
    let decoder = decoder(&config, 1);
    let mut rng = rng(4);
    let items: Vec<Sequence> =
        [300; 30].into_iter().chain([8300, 5]).map(|len| sequence(&mut rng, len, 3)).collect();
    let together = score(&decoder, None, &items).unwrap();
    assert_eq!(together.len(), items.len());
    for (item, together) in items.iter().zip(&together).step_by(7) {
        let alone = &score(&decoder, None, std::slice::from_ref(item)).unwrap()[0];
        assert!((alone.log_prob - together.log_prob).abs() < 1e-4, "{alone:?}, {together:?}");
    }
}

#[test]
fn a_seed_decides_every_draw() {
    let decoder = decoder(&config(Family::Llama, false), 4);
    let prompt = counted(&[1, 2, 3]);
    let drawn = |temperature, top_p, seed| {
        continued(&decoder, None, &prompt, SamplingSettings { temperature, top_k: None, top_p, seed }, 24)
    };
    for top_p in [0.9, 1.0] {
        assert_eq!(drawn(1.0, top_p, 5), drawn(1.0, top_p, 5));
        // At this temperature two draws agree in a token less often than one in ten, in 24 of them never: ten
        // seeds give ten texts.
        let texts: HashSet<Vec<u32>> = (0..10).map(|seed| drawn(3.0, top_p, seed)).collect();
        assert_eq!(texts.len(), 10);
    }
    let greedy = continued(&decoder, None, &prompt, SamplingSettings::GREEDY, 24);
    for seed in 0..5 {
        assert_eq!(drawn(1e-3, 1.0, seed), greedy, "almost no temperature");
        assert_eq!(drawn(1.0, 1e-6, seed), greedy, "a nucleus of one token");
    }
}

#[test]
fn draws_follow_the_softmax_and_stay_in_the_nucleus() {
    const DRAWS: u64 = 3000;
    let decoder = decoder(&config(Family::Llama, false), 4);
    let (ids, temperature) = ([1, 2, 3], 1.7);
    let logits = token_logits(&decoder, None, &ids, &[0, 1, 2]).unwrap().to_vec2::<f32>().unwrap();
    let terms: Vec<f64> = logits[2].iter().map(|&logit| (f64::from(logit) / temperature).exp()).collect();
    let total: f64 = terms.iter().sum();
    let mut ranked: Vec<(f64, usize)> =
        terms.iter().enumerate().map(|(id, term)| (term / total, id)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for top_p in [0.6, 1.0] {
        let mut before = 0.0;
        let inside_nucleus = |(p, _): &&(f64, usize)| {
            let inside = before < top_p;
            before += p;
            inside
        };
        let inside: Vec<_> = ranked.iter().take_while(inside_nucleus).collect();
        let mass: f64 = inside.iter().map(|(p, _)| p).sum();
        assert!(inside.len() > 2 && (inside.len() < VOCAB || top_p == 1.0));
        let mut counts = [0f64; VOCAB];
        for seed in 0..DRAWS {
            let sampling = SamplingSettings { temperature, top_k: None, top_p, seed };
            counts[continued(&decoder, None, &counted(&ids), sampling, 1)[0] as usize] += 1.0;
        }
        // Chi-squared over at most 29 cells: above 70 with a probability below 1e-4, and the seeds are fixed.
        let chi: f64 = inside
            .iter()
            .map(|&&(p, id)| {
                let expected = DRAWS as f64 * p / mass;
                (counts[id] - expected).powi(2) / expected
            })
            .sum();
        assert!(chi < 70.0, "top_p {top_p}: chi-squared {chi}");
        let drawn_inside: f64 = inside.iter().map(|&&(_, id)| counts[id]).sum();
        assert_eq!(drawn_inside, DRAWS as f64, "top_p {top_p}: a draw from outside the nucleus");
    }
}

#[test]
fn generation_ends_at_a_stop_token_or_at_its_limit() {
    let decoder = decoder(&config(Family::Llama, false), 4);
    let prompt = counted(&[1, 2, 3]);
    let all = continued(&decoder, None, &prompt, SamplingSettings::GREEDY, 10);
    let run = |stop: &[u32], max| {
        let mut next = 0..;
        generate(&decoder, None, &prompt.ids, |_| next.next().unwrap(), SamplingSettings::GREEDY, stop, max)
            .unwrap()
    };
    for max in 0..10 {
        assert_eq!(run(&[], max), (all[..max].to_vec(), StopReason::Length));
    }
    for &stop in &all {
        let first = all.iter().position(|&id| id == stop).unwrap();
        assert_eq!(run(&[stop], 10), (all[..first].to_vec(), StopReason::StopToken), "stop {stop}");
        assert_eq!(run(&[VOCAB as u32 + 5, stop], 10).0, all[..first], "a stop outside the vocabulary");
    }
}

#[test]
fn positions_are_asked_for_once_in_order() {
    let decoder = decoder(&config(Family::Llama, false), 4);
    let mut asked = Vec::new();
    let position_of = |id| {
        asked.push(id);
        asked.len() as u32
    };
    let (ids, _) =
        generate(&decoder, None, &[1, 2, 3], position_of, SamplingSettings::GREEDY, &[], 4).unwrap();
    // The last token is never run.
    assert_eq!(asked, [&[1, 2, 3], &ids[..3]].concat());
}

#[test]
fn prompts_that_cannot_be_run_are_refused() {
    let decoder = decoder(&config(Family::Llama, false), 4);
    let refused = |ids: &[u32]| {
        generate(&decoder, None, ids, |_| 0, SamplingSettings::GREEDY, &[], 4).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(&[]), @"this model cannot be given this context: the prompt is empty");
    insta::assert_snapshot!(refused(&[1, 29, 2]), @"token id 29 is outside the vocabulary of 29");
    let item = Sequence { ids: vec![1, u32::MAX], positions: vec![0, 1], labelled: vec![false, true] };
    assert!(matches!(
        score(&decoder, None, &[item]),
        Err(LearnError::TokenId { id: u32::MAX, vocab: VOCAB })
    ));
}
