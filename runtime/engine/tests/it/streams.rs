//! Streams below the runtime: they come and go, wait, and go on under another adapter.

use std::sync::Arc;

use selkie_edit::{Context, Domain, TrainingDefaults};
use selkie_learn::{Adapter, Model, Resumption, SamplingSettings, StreamEvent, StreamSettings, Streams};

use crate::support::{passage, runtime};

fn settings(model: &Model, index: u64, adapter: Option<Arc<Adapter>>) -> StreamSettings {
    let prompt = model.codec().text_prompt(&passage(index).context).unwrap();
    StreamSettings {
        stop: model.stops(prompt.end),
        prompt,
        adapter,
        sampling: SamplingSettings::seeded(index),
        banned: Vec::new(),
        constraint: None,
        max_new: 60,
    }
}

/// An adapter that changes what the model says.
fn adapter(model: &Model) -> Arc<Adapter> {
    let lora = TrainingDefaults::seal().passage.lora;
    let config = model.decoder().config();
    let one = Adapter::init(config, &lora, 1).unwrap();
    let trained =
        {
            let context = Context::Passage(passage(0));
            let sequences: Vec<_> =
                [&passage(0).context].iter().map(|text| model.codec().document(text).unwrap()).collect();
            let mut training = model.profile().training.passage.clone();
            (training.epochs, training.learning_rate) = (3, 0.01);
            drop((context, one));
            selkie_learn::train(model.decoder(), &sequences, &training, 1, |_| {
                std::ops::ControlFlow::Continue(())
            })
        };
    Arc::new(trained.unwrap().adapter)
}

fn run(model: &Model, streams: &mut Streams) -> Vec<(u64, u32)> {
    let mut told = Vec::new();
    while streams.is_running() {
        for (number, event) in streams.advance(model.decoder()) {
            match event {
                StreamEvent::Token(id, _) => told.push((number, id)),
                StreamEvent::Ended(_) => {}
                StreamEvent::Failed(error) => panic!("{error}"),
            }
        }
    }
    told
}

#[test]
fn a_stream_says_the_same_whoever_comes_and_goes_beside_it() {
    let runtime = runtime(Domain::Passage);
    let model = &runtime.model;
    let alone = |index: u64| {
        let mut streams = Streams::new(0);
        streams.open(model.decoder(), index, settings(model, index, None)).unwrap();
        run(model, &mut streams);
        streams.tokens(index)
    };
    let mut streams = Streams::new(2);
    for index in 0..4 {
        streams.open(model.decoder(), index, settings(model, index, None)).unwrap();
        for _ in 0..5 {
            streams.advance(model.decoder());
        }
        if index == 2 {
            streams.pause(0);
            streams.close(1);
        }
    }
    run(model, &mut streams);
    streams.unpause(0);
    run(model, &mut streams);
    for index in [0, 2, 3] {
        assert_eq!(streams.tokens(index), alone(index), "stream {index}");
    }
    assert_eq!(streams.tokens(1), Vec::<u32>::new());
}

#[test]
fn computing_all_anew_is_a_fresh_run_over_the_same_tokens() {
    let runtime = runtime(Domain::Passage);
    let model = &runtime.model;
    let new = adapter(model);
    let mut streams = Streams::new(0);
    streams.open(model.decoder(), 1, settings(model, 1, None)).unwrap();
    for _ in 0..10 {
        streams.advance(model.decoder());
    }
    let kept = streams.tokens(1);
    let resumption = Resumption {
        kept: 8,
        inserted: kept[..2].to_vec(),
        adapter: Some(new.clone()),
        reused: 0,
        draws_anew: true,
        banned: Vec::new(),
        constraint: None,
        max_new: 30,
    };
    streams.resume(model.decoder(), 1, resumption).unwrap();
    run(model, &mut streams);
    let went_on = streams.tokens(1)[10..].to_vec();

    let mut prompt = model.codec().text_prompt(&passage(1).context).unwrap();
    let mut places = prompt.places.clone();
    for &id in kept[..8].iter().chain(&kept[..2]) {
        prompt.ids.push(id);
        prompt.positions.push(places.push(id));
    }
    prompt.places = places;
    let fresh = StreamSettings { prompt, max_new: 30, ..settings(model, 1, Some(new)) };
    let mut streams = Streams::new(0);
    streams.open(model.decoder(), 9, fresh).unwrap();
    run(model, &mut streams);
    assert_eq!(went_on, streams.tokens(9));
}

#[test]
fn banned_tokens_are_never_chosen() {
    let runtime = runtime(Domain::Passage);
    let model = &runtime.model;
    let mut streams = Streams::new(0);
    streams.open(model.decoder(), 0, settings(model, 0, None)).unwrap();
    run(model, &mut streams);
    let first = streams.tokens(0)[0];
    let mut streams = Streams::new(0);
    let banned = StreamSettings { banned: vec![first], ..settings(model, 0, None) };
    streams.open(model.decoder(), 0, banned).unwrap();
    run(model, &mut streams);
    assert!(!streams.tokens(0).contains(&first));
}
