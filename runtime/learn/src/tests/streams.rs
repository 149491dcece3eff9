//! Several streams in one generation: each says what it says alone, bit for bit.

use std::cell::RefCell;
use std::ops::ControlFlow;

use selkie_edit::Projection;

use super::constraint::byte_level_vocabulary;
use super::support::{FAMILIES, VOCAB, adapter, config, decoder, lora, rng, sequence};
use crate::config::{Family, ModelConfig};
use crate::constraint::{Constraint, Grammar};
use crate::decoder::{Cache, Decoder, Extension, Lane};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops::FEW_ROWS;
use crate::optim::ADAPTER_ADAMW;
use crate::sample::{Generated, PromptCache, Request, StopReason, Told, generate_batch};
use crate::sampler::SamplingSettings;
use crate::score::score;
use crate::sequence::Sequence;
use crate::train::Trainer;

/// What a request is made of, so that it can be made twice.
#[derive(Clone)]
struct Case<'a> {
    prompt: Vec<u32>,
    first: u32,
    adapter: Option<&'a Adapter>,
    sampling: SamplingSettings,
    stop: Vec<u32>,
    constraint: Option<Constraint>,
    max_new: usize,
}

impl Case<'_> {
    fn request(&self) -> Request<'_> {
        let mut next = self.first..;
        Request {
            prompt: &self.prompt,
            position_of: Box::new(move |_| next.next().unwrap()),
            adapter: self.adapter,
            sampling: self.sampling,
            stop: &self.stop,
            constraint: self.constraint.clone(),
            max_new: self.max_new,
        }
    }
}

fn plain(prompt: &[u32], max_new: usize) -> Case<'static> {
    let (prompt, sampling) = (prompt.to_vec(), SamplingSettings::GREEDY);
    Case { prompt, first: 0, adapter: None, sampling, stop: Vec::new(), constraint: None, max_new }
}

fn batch(decoder: &Decoder, prompts: &mut PromptCache, cases: &[Case<'_>]) -> Vec<Generated> {
    let requests = cases.iter().map(Case::request).collect();
    generate_batch(decoder, prompts, requests, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Together, and each alone.
fn check(what: &str, decoder: &Decoder, cases: &[Case<'_>]) -> Vec<Generated> {
    let together = batch(decoder, &mut PromptCache::new(0), cases);
    assert_eq!(together.len(), cases.len());
    for (place, (case, found)) in cases.iter().zip(&together).enumerate() {
        let alone = batch(decoder, &mut PromptCache::new(0), std::slice::from_ref(case)).swap_remove(0);
        let bits = |made: &Generated| -> Vec<Option<u32>> {
            made.log_probs.iter().map(|log_prob| log_prob.map(f32::to_bits)).collect()
        };
        assert_eq!((&found.ids, found.ended), (&alone.ids, alone.ended), "{what}, stream {place}");
        assert_eq!(bits(found), bits(&alone), "{what}, stream {place}");
        assert_eq!(found.ids.len(), found.log_probs.len());
    }
    together
}

fn settings(place: usize) -> SamplingSettings {
    let seed = 100 + place as u64;
    [
        SamplingSettings::GREEDY,
        SamplingSettings::seeded(seed),
        SamplingSettings { temperature: 0.7, top_k: Some(5), top_p: 0.9, seed },
        SamplingSettings { temperature: 2.0, top_k: None, top_p: 0.8, seed },
    ][place % 4]
}

#[test]
fn streams_of_a_batch_are_each_as_if_alone() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapters = [1, 2].map(|seed| adapter(&config, &lora(seed as u32 * 3, &Projection::ALL), seed));
        let upper = {
            let mut upper = adapter(&config, &lora(2, &[Projection::VProj]), 7);
            upper.pairs.retain(|site, _| site.layer == 1);
            upper
        };
        let who = [None, Some(&adapters[0]), Some(&adapters[1]), Some(&upper), Some(&adapters[0])];
        let mut rng = rng(index as u64);
        // More streams than one pass takes, which end at different times.
        for count in [2, 5, FEW_ROWS, FEW_ROWS + 1, 2 * FEW_ROWS + 5] {
            let cases: Vec<Case<'_>> = (0..count)
                .map(|place| Case {
                    prompt: sequence(&mut rng, 1 + (place * 7) % 23, 0).ids,
                    first: place as u32 * 3,
                    adapter: who[place % who.len()],
                    sampling: settings(place),
                    stop: if place % 3 == 1 { vec![place as u32 % 29, 3, 900] } else { Vec::new() },
                    constraint: None,
                    max_new: [12, 0, 1, 25, 7][place % 5],
                })
                .collect();
            let made = check(&format!("{family:?}, {count} streams"), &decoder, &cases);
            for (case, made) in cases.iter().zip(made) {
                assert!(made.ids.iter().all(|id| !case.stop.contains(id)));
                match made.ended {
                    StopReason::Length => assert_eq!(made.ids.len(), case.max_new),
                    StopReason::StopToken => assert!(made.ids.len() < case.max_new),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let decoder = decoder(&config(Family::Llama, false), 1);
    assert!(batch(&decoder, &mut PromptCache::new(2), &[]).is_empty());
}

#[test]
fn log_probabilities_are_those_of_scoring() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 1);
        let case = |place: usize| Case {
            adapter: place.is_multiple_of(2).then_some(&adapter),
            sampling: settings(place),
            first: 5,
            ..plain(&[3, 1, 4, 1, 5], 20)
        };
        let cases: Vec<Case<'_>> = (0..6).map(case).collect();
        for (case, made) in cases.iter().zip(batch(&decoder, &mut PromptCache::new(1), &cases)) {
            let ids = [case.prompt.as_slice(), &made.ids].concat();
            let item = Sequence {
                positions: (5..5 + ids.len() as u32).collect(),
                labelled: (0..ids.len()).map(|at| at >= 5).collect(),
                ids,
            };
            let score = score(&decoder, case.adapter, &[item]).unwrap().swap_remove(0);
            for (found, expected) in made.log_probs.iter().zip(&score.token_log_probs) {
                let off = (found.unwrap() - expected).abs();
                assert!(off < 1e-4, "{family:?}: {made:?}, {score:?}");
            }
            assert_eq!(made.log_probs.len(), score.tokens);
        }
    }
}

#[test]
fn a_prompt_is_run_once_for_all_its_samples() {
    let config = config(Family::Llama, true);
    let decoder = decoder(&config, 3);
    let sample = |place| Case { sampling: SamplingSettings::seeded(place), ..plain(&[1, 2, 3, 4], 9) };
    let cases: Vec<Case<'_>> = (0..6).map(sample).collect();
    let expected = batch(&decoder, &mut PromptCache::new(0), &cases);
    let mut prompts = PromptCache::new(1);
    assert_eq!(batch(&decoder, &mut prompts, &cases), expected);
    assert_eq!(prompts.hits(), 5);
    assert_eq!(
        batch(&decoder, &mut prompts, &cases),
        expected,
        "what is kept does not grow with its streams"
    );
    assert_eq!(prompts.hits(), 11);
    // Other positions, other tokens, another adapter: another prompt.
    let adapter = adapter(&config, &lora(3, &Projection::ALL), 1);
    let cold = |case: Case<'_>| {
        let (mut prompts, before) = (PromptCache::new(4), prompts.hits());
        batch(&decoder, &mut prompts, &cases[..1]);
        let found = batch(&decoder, &mut prompts, std::slice::from_ref(&case));
        assert_eq!((prompts.hits(), before), (0, 11));
        assert_eq!(found, batch(&decoder, &mut PromptCache::new(0), &[case]));
    };
    cold(Case { first: 1, ..sample(0) });
    cold(Case { adapter: Some(&adapter), ..sample(0) });
    cold(plain(&[1, 2, 3], 9));
    cold(plain(&[1, 2, 3, 5], 9));
    cold(plain(&[1, 2, 3, 4, 4], 9));
}

#[test]
fn an_adapter_that_was_trained_on_is_another_adapter() {
    let config = config(Family::Qwen3, true);
    let decoder = decoder(&config, 3);
    let set = [sequence(&mut rng(1), 8, 4)];
    let start = adapter(&config, &lora(3, &Projection::ALL), 1);
    let mut trainer = Trainer::new(&decoder, start, ADAPTER_ADAMW).unwrap();
    let mut prompts = PromptCache::new(8);
    let mut seen = Vec::new();
    for step in 0..4 {
        let adapter = trainer.adapter().clone();
        let case = Case { adapter: Some(&adapter), ..plain(&[1, 2, 3, 4], 6) };
        let cold = batch(&decoder, &mut PromptCache::new(0), std::slice::from_ref(&case));
        let before = prompts.hits();
        assert_eq!(batch(&decoder, &mut prompts, std::slice::from_ref(&case)), cold, "step {step}");
        assert_eq!(prompts.hits(), before, "step {step}: nothing stale");
        // A clone of the same adapter is the same.
        let clone = adapter.clone();
        let again = Case { adapter: Some(&clone), ..case };
        assert_eq!(batch(&decoder, &mut prompts, &[again]), cold);
        assert_eq!(prompts.hits(), before + 1);
        seen.push(cold[0].log_probs.clone());
        trainer.step(&[&set[0]], 1e-2).unwrap();
    }
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_prompt_that_was_not_used_for_longest_is_forgotten() {
    let decoder = decoder(&config(Family::Llama, false), 3);
    let run = |prompts: &mut PromptCache, id: u32| {
        let before = prompts.hits();
        batch(&decoder, prompts, &[plain(&[id, id], 2)]);
        prompts.hits() > before
    };
    for (capacity, order, found) in [
        (0, &[1, 1, 1][..], &[false, false, false][..]),
        (1, &[1, 1, 2, 1, 1], &[false, true, false, false, true]),
        (2, &[1, 2, 1, 2, 3, 1, 2], &[false, false, true, true, false, false, false]),
        (2, &[1, 2, 1, 3, 1, 2], &[false, false, true, false, true, false]),
        (3, &[1, 2, 3, 1, 2, 3], &[false, false, false, true, true, true]),
    ] {
        let mut prompts = PromptCache::new(capacity);
        let hits: Vec<bool> = order.iter().map(|&id| run(&mut prompts, id)).collect();
        assert_eq!(hits, found, "capacity {capacity}, {order:?}");
    }
}

#[test]
fn whoever_is_told_may_end_one_stream() {
    let decoder = decoder(&config(Family::Llama, false), 3);
    let cases: Vec<Case<'_>> =
        (0..5).map(|place| Case { sampling: settings(place), ..plain(&[place as u32, 2], 10) }).collect();
    let whole = batch(&decoder, &mut PromptCache::new(0), &cases);
    for (stopped, after) in [(0, 1), (3, 4), (4, 10)] {
        let mut told: Vec<Vec<Told>> = vec![Vec::new(); cases.len()];
        let requests = cases.iter().map(Case::request).collect();
        let made = generate_batch(&decoder, &mut PromptCache::new(0), requests, &mut |one| {
            told[one.request].push(one);
            match one.request == stopped && told[stopped].len() == after {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        for (place, (made, whole)) in made.unwrap().iter().zip(&whole).enumerate() {
            let heard: Vec<_> = told[place].iter().map(|one| (one.id, one.log_prob)).collect();
            let said: Vec<_> = made.ids.iter().copied().zip(made.log_probs.iter().copied()).collect();
            assert_eq!(heard, said, "stream {place} is told as it is made");
            if place == stopped {
                assert_eq!(made.ids, whole.ids[..after], "the token at which it stops is part of it");
                assert_eq!(made.ended, StopReason::Stopped);
            } else {
                assert_eq!(made, whole, "stream {place}");
            }
        }
    }
}

#[test]
fn each_position_is_asked_for_once_in_order() {
    let decoder = decoder(&config(Family::Llama, false), 3);
    let asked: Vec<RefCell<Vec<u32>>> = vec![RefCell::default(); 4];
    let cases: Vec<Case<'_>> =
        (0..4).map(|place| plain(&[place, 2, 3, 3][..1 + place as usize], 5)).collect();
    for prompts in [&mut PromptCache::new(0), &mut PromptCache::new(9)] {
        for round in 0..2 {
            asked.iter().for_each(|asked| asked.borrow_mut().clear());
            let request = |(case, asked): (&'_ Case<'_>, &'_ RefCell<Vec<u32>>)| -> Vec<u32> {
                let position_of = Box::new(|id| {
                    asked.borrow_mut().push(id);
                    asked.borrow().len() as u32
                });
                let request = Request { position_of, ..case.request() };
                let told = &mut |_| ControlFlow::Continue(());
                generate_batch(&decoder, prompts, vec![request], told).unwrap().swap_remove(0).ids
            };
            let mut request = request;
            for (case, asked) in cases.iter().zip(&asked) {
                let ids = request((case, asked));
                assert_eq!(*asked.borrow(), [&case.prompt, &ids[..4]].concat(), "round {round}");
            }
        }
    }
}

#[test]
fn rows_of_a_pass_do_not_touch_each_other() {
    // Five sequences of unequal lengths, grown by unequal numbers of tokens, with and without adapters.
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapters = [1, 2].map(|seed| adapter(&config, &lora(4, &Projection::ALL), seed));
        let who = [None, Some(&adapters[0]), Some(&adapters[0]), Some(&adapters[1]), None];
        let mut rng = rng(9);
        let prompts = [3, 9, 1, 30, 70].map(|len| sequence(&mut rng, len, 0));
        let news = [1, 2, 1, 1, 3].map(|len| sequence(&mut rng, len, 0));
        let start = |place: usize| {
            let mut cache = Cache::new(&config, 4);
            let lane = Lane { rows: prompts[place].len(), adapter: who[place], dropout: None };
            let Sequence { ids, positions, .. } = &prompts[place];
            decoder.extend(&mut [Extension { cache: &mut cache, ids, positions }], &[lane]).unwrap();
            cache
        };
        let grown = |places: &[usize]| -> Vec<Vec<u32>> {
            let mut caches: Vec<Cache> = places.iter().map(|&place| start(place)).collect();
            let mut last = Vec::new();
            for _ in 0..2 {
                let lanes: Vec<Lane<'_>> = places
                    .iter()
                    .map(|&place| Lane { rows: news[place].len(), adapter: who[place], dropout: None })
                    .collect();
                let mut extensions: Vec<Extension<'_>> = caches
                    .iter_mut()
                    .zip(places)
                    .map(|(cache, &place)| Extension {
                        cache,
                        ids: &news[place].ids,
                        positions: &news[place].positions,
                    })
                    .collect();
                let rows = decoder.extend(&mut extensions, &lanes).unwrap();
                let logits = decoder.logits(&rows).unwrap().to_vec2::<f32>().unwrap();
                last = logits.iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect();
            }
            assert!(
                caches
                    .iter()
                    .zip(places)
                    .all(|(cache, &place)| { cache.len() == prompts[place].len() + 2 * news[place].len() })
            );
            last
        };
        assert!(news.iter().map(Sequence::len).sum::<usize>() <= FEW_ROWS);
        let together = grown(&[0, 1, 2, 3, 4]);
        for (place, together) in together.iter().enumerate() {
            assert_eq!(*together, grown(&[place])[0], "{family:?}, tied {tied}, sequence {place}");
        }
    }
}

#[test]
fn constrained_streams_stand_beside_free_ones() {
    let (vocabulary, tokenizer, end) = byte_level_vocabulary();
    let config = ModelConfig { vocab_size: vocabulary.size(), ..config(Family::Llama, true) };
    let decoder = decoder(&config, 3);
    let adapter = adapter(&config, &lora(3, &Projection::ALL), 1);
    let grammar = |text: &str| Constraint::new(&vocabulary, &Grammar::Regex(text.to_owned())).unwrap();
    let constraints = [
        None,
        Some(grammar(r#"\{"tool": "(rotate|transpose)", "version": [0-9]{2}\}"#)),
        Some(grammar("a{3}")),
        Some(grammar("[a-c]{1,40}x")),
        None,
        Some(grammar(r"the quick brown fox jumps over the lazy dog [0-9]")),
        Some(grammar("(yes|no)?")),
    ];
    for stop in [vec![end], Vec::new()] {
        for max_new in [0, 1, 5, 60] {
            let cases: Vec<Case<'_>> = (0..14)
                .map(|place| Case {
                    constraint: constraints[place % constraints.len()].clone(),
                    adapter: (place % 3 == 1).then_some(&adapter),
                    sampling: settings(place),
                    stop: stop.clone(),
                    first: place as u32,
                    ..plain(&[place as u32 + 1, 7], max_new)
                })
                .collect();
            let made = check(&format!("{stop:?}, {max_new} new"), &decoder, &cases);
            for (place, made) in made.iter().enumerate() {
                let text = tokenizer.decode(&made.ids, true).unwrap();
                assert!(made.ids.len() <= max_new && !made.ids.contains(&end) || place % 7 % 4 == 0);
                let whole = matches!(made.ended, StopReason::Complete | StopReason::StopToken);
                match place % 7 {
                    1 if whole => assert!(text.starts_with(r#"{"tool": "#) && text.ends_with('}'), "{text}"),
                    2 if whole => assert_eq!(text, "aaa"),
                    3 if whole => assert!(text.ends_with('x'), "{text}"),
                    5 if whole => assert_eq!(text.len(), 45, "{text}"),
                    6 if whole => assert!(["", "yes", "no"].contains(&text.as_str()), "{text}"),
                    1 | 5 if max_new == 60 => panic!("stream {place} is not whole: {text}"),
                    _ => {}
                }
                // Tokens that were forced were not asked for.
                if place % 7 == 5 && max_new == 60 {
                    let forced = made.log_probs.iter().filter(|log_prob| log_prob.is_none()).count();
                    assert!(forced > FEW_ROWS, "{forced} forced of {}", made.ids.len());
                }
            }
        }
    }
    // A constraint over another model's vocabulary is said, forced or not.
    let small = super::support::decoder(&super::support::config(Family::Llama, true), 3);
    for text in ["the quick brown fox", "[a-z]"] {
        let case = Case { constraint: Some(grammar(text)), ..plain(&[1], 5) };
        let error = generate_batch(&small, &mut PromptCache::new(0), vec![case.request()], &mut |_| {
            ControlFlow::Continue(())
        });
        let error = error.unwrap_err();
        assert!(matches!(error, LearnError::TokenId { .. } | LearnError::Constraint(_)), "{error}");
    }
}

#[test]
fn a_limit_without_end_asks_for_no_memory_without_end() {
    let decoder = decoder(&config(Family::Llama, false), 3);
    let request = plain(&[1, 2], usize::MAX);
    let mut count = 0;
    let made = generate_batch(&decoder, &mut PromptCache::new(1), vec![request.request()], &mut |_| {
        count += 1;
        if count == 1100 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let made = made.unwrap().swap_remove(0);
    assert_eq!((made.ids.len(), made.ended), (1100, StopReason::Stopped));
    // The cache has grown in between.
    assert_eq!(made, {
        let mut limited = batch(&decoder, &mut PromptCache::new(0), &[plain(&[1, 2], 1100)]).swap_remove(0);
        limited.ended = StopReason::Stopped;
        limited
    });
}

#[test]
fn requests_that_cannot_be_run_are_refused() {
    let small = config(Family::Llama, false);
    let decoder = decoder(&small, 3);
    let other = adapter(&ModelConfig { hidden_size: 16, ..small.clone() }, &lora(2, &[Projection::QProj]), 1);
    let deep = adapter(&ModelConfig { layers: 3, ..small.clone() }, &lora(2, &[Projection::QProj]), 1);
    let refused = |case: Case<'_>| {
        let good = plain(&[1], 3);
        let requests = [&good, &case]
            .map(Case::request)
            .into_iter()
            .map(|request| Request { position_of: Box::new(|_| 0), ..request })
            .collect();
        let told = &mut |_| panic!("nothing is said");
        generate_batch(&decoder, &mut PromptCache::new(1), requests, told).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(plain(&[], 3)), @"this model cannot be given this context: the prompt is empty");
    insta::assert_snapshot!(refused(plain(&[VOCAB as u32], 3)), @"token id 29 is outside the vocabulary of 29");
    insta::assert_snapshot!(refused(Case { adapter: Some(&other), ..plain(&[1], 3) }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [2, 16] and B [40, 2] for a layer of 40x24");
    insta::assert_snapshot!(refused(Case { adapter: Some(&deep), ..plain(&[1], 3) }), @"the adapter cannot be used: `model.layers.2.self_attn.q_proj` is not in this model of 2 blocks");
    let sampling = SamplingSettings { temperature: f64::NAN, ..SamplingSettings::GREEDY };
    assert!(refused(Case { sampling, ..plain(&[1], 3) }).starts_with("generation: "));
    // The logits of one token alone: as above, and neither does an empty sequence panic.
    let logits = |adapter, ids: &[u32], positions: &[u32]| {
        crate::score::token_logits(&decoder, adapter, ids, positions).unwrap_err().to_string()
    };
    insta::assert_snapshot!(logits(None, &[], &[]), @"this model cannot be given this context: the sequence is empty");
    insta::assert_snapshot!(logits(None, &[1, 2], &[0]), @"this model cannot be given this context: a sequence of 2 tokens has 1 positions; expected one a token");
    assert!(logits(Some(&other), &[1], &[0]).starts_with("the adapter cannot be used"));
    let scored = score(&decoder, Some(&deep), &[sequence(&mut rng(1), 3, 1)]).unwrap_err().to_string();
    assert!(
        scored.ends_with("`model.layers.2.self_attn.q_proj` is not in this model of 2 blocks"),
        "{scored}"
    );
}
