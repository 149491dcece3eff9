//! Answers of a live runtime: the same as without it, whatever runs beside them.

use selkie_edit::{Answer, Context, Domain};
use selkie_engine::live::{EndReason, GenerateRequest, LiveError, Message, Piece, Prompt};
use selkie_learn::{Grammar, SamplingSettings};

use crate::support::{Bench, ask, edit_of, passage, pieces, runtime, teaching, tokens};

#[test]
fn an_answer_is_what_the_model_says_without_the_runtime() {
    let bench = Bench::new(Domain::Passage);
    let model = &runtime(Domain::Passage).model;
    for index in 0..3 {
        let context = Context::Passage(passage(index));
        for (place, item) in model.codec().items(&context).unwrap().iter().enumerate().take(3) {
            let said = bench.says(ask(Prompt::Item(context.clone(), place)));
            assert_eq!(Answer::Text(said), model.answer(None, item).unwrap(), "{}", item.name);
        }
    }
}

#[test]
fn pup_answers_a_message_as_it_was_trained_to_be_asked() {
    let bench = Bench::new(Domain::Passage);
    let passage = passage(0);
    let question = &passage.questions[0].question;
    let message = |content: &str| Message { role: "user".to_owned(), content: content.to_owned() };
    let chat = bench.says(ask(Prompt::Chat(vec![message("hello"), message(question)])));
    let item = bench.says(ask(Prompt::Item(Context::Passage(passage.clone()), 0)));
    assert_eq!(chat, item);

    let bench = Bench::new(Domain::Puzzle);
    let puzzle = runtime(Domain::Puzzle).model.puzzle_world().unwrap().held_out_puzzle(0, 1);
    let context = Context::Puzzle(puzzle);
    let chat = bench.says(ask(Prompt::Chat(vec![message(&context.to_json().to_string())])));
    let rows: Vec<Vec<u8>> = serde_json::from_str(&chat).unwrap();
    let item = &runtime(Domain::Puzzle).model.codec().items(&context).unwrap()[0];
    let expected = runtime(Domain::Puzzle).model.answer(None, item).unwrap();
    assert_eq!(serde_json::json!(rows), serde_json::to_value(&expected).unwrap());

    let refused = bench.live.generate(ask(Prompt::Chat(vec![message("hello")]))).map(drop);
    let text = refused.unwrap_err().to_string();
    assert!(
        text.starts_with("the model understands puzzles: the last message must be one in JSON"),
        "{text}"
    );
}

#[test]
fn pieces_and_the_rest_are_the_whole_text() {
    let bench = Bench::new(Domain::Puzzle);
    let puzzle = runtime(Domain::Puzzle).model.puzzle_world().unwrap().held_out_puzzle(1, 1);
    let told = pieces(&bench.live, ask(Prompt::Item(Context::Puzzle(puzzle), 0)));
    let mut text = String::new();
    for piece in &told {
        match piece {
            Piece::Text { text: piece, .. } => text.push_str(piece),
            Piece::End(end) => {
                text.push_str(&end.rest);
                assert_eq!(text, end.text);
                assert_eq!(end.reason, EndReason::Stop);
                assert_eq!(end.adapter, "base");
                assert_eq!(end.tokens, tokens(&told).len());
            }
            Piece::Event(event) => panic!("{event:?}"),
        }
    }
    assert!(matches!(told.last(), Some(Piece::End(_))));
}

#[test]
fn stop_texts_limits_and_grammars_hold() {
    let bench = Bench::new(Domain::Passage);
    let prompt = Prompt::Text("The home of".to_owned());
    let free = bench.says(ask(prompt.clone()));
    let word = free.split_whitespace().nth(1).unwrap().to_owned();
    let stopped = bench.says(GenerateRequest { stop: vec![word.clone()], ..ask(prompt.clone()) });
    assert_eq!(Some(stopped.as_str()), free.split_once(&word).map(|(before, _)| before));
    let short = pieces(&bench.live, GenerateRequest { max_tokens: Some(2), ..ask(prompt.clone()) });
    assert_eq!(tokens(&short).len(), 2);
    let Some(Piece::End(end)) = short.last() else { panic!("{short:?}") };
    assert_eq!(end.reason, EndReason::Length);
    let grammar = Some(Grammar::Regex("(red|blue)".to_owned()));
    let said = bench.says(GenerateRequest { grammar, ..ask(prompt) });
    assert!(["red", "blue"].contains(&said.as_str()), "{said}");
}

#[test]
fn what_cannot_be_answered_is_refused_with_its_reason() {
    let bench = Bench::with(Domain::Passage, |options| (options.streams, options.waiting) = (1, 0));
    let cases: [(GenerateRequest, &str); 5] = [
        (ask(Prompt::Chat(Vec::new())), "the conversation has no message to answer"),
        (
            GenerateRequest { max_tokens: Some(0), ..ask(Prompt::Text("a".into())) },
            "max_tokens is 0; expected 1 to 1024",
        ),
        (
            ask(Prompt::Text("a ".repeat(5000))),
            "the prompt has 10002 tokens; the model has 512 positions, for the prompt and what follows",
        ),
        (
            GenerateRequest {
                sampling: SamplingSettings { temperature: -1.0, ..SamplingSettings::GREEDY },
                ..ask(Prompt::Text("a".into()))
            },
            "temperature is -1; expected 0 (greedy) or a number above it",
        ),
        (
            ask(Prompt::Item(Context::Passage(passage(0)), 99)),
            "`Orva Lemdo and Tamu Farro` has no question 99; it has 8, from 0",
        ),
    ];
    for (request, expected) in cases {
        let found = bench.live.generate(request).map(drop).unwrap_err().to_string();
        assert_eq!(with_name(&found), with_name(expected));
    }
    let long = || GenerateRequest { max_tokens: Some(900), ..ask(Prompt::Text("The home of".into())) };
    let held = bench.live.generate(long()).unwrap();
    let full = bench.live.generate(long()).map(drop).unwrap_err();
    assert!(matches!(full, LiveError::Busy { what: "the queue of requests", limit: 0, .. }), "{full}");
    drop(held);
}

/// Names of the world are not what is tested.
fn with_name(text: &str) -> String {
    match text.split_once('`').and_then(|(_, rest)| rest.split_once('`')) {
        Some((_, rest)) => format!("`..`{rest}"),
        None => text.to_owned(),
    }
}

#[test]
fn streams_beside_an_edit_say_to_the_bit_what_they_say_without_one() {
    let prompts: Vec<Prompt> = (0..20)
        .map(|index| {
            let passage = passage(index);
            match index % 2 {
                0 => Prompt::Text(passage.context),
                _ => Prompt::Item(Context::Passage(passage), 0),
            }
        })
        .collect();
    let request = |prompt: &Prompt| GenerateRequest {
        sampling: SamplingSettings::seeded(7),
        max_tokens: Some(120),
        ..ask(prompt.clone())
    };
    let alone = Bench::new(Domain::Passage);
    let expected: Vec<_> = prompts.iter().map(|prompt| pieces(&alone.live, request(prompt))).collect();

    let bench = Bench::new(Domain::Passage);
    let mut edit = edit_of(Context::Passage(passage(3)), &teaching(3, 12));
    edit.scope = selkie_engine::live::Scope::Session;
    edit.session = Some("somebody else".to_owned());
    let edit = bench.live.submit(edit).unwrap();
    let replies: Vec<_> =
        prompts.iter().map(|prompt| bench.live.generate(request(prompt)).unwrap()).collect();
    for (mut reply, expected) in replies.into_iter().zip(&expected) {
        let told: Vec<_> = std::iter::from_fn(|| reply.next_blocking()).collect();
        assert_eq!(&told, expected);
    }
    assert_eq!(
        bench.live.finished_blocking(&edit).unwrap().reason.as_deref().map(str::is_empty),
        Some(false)
    );
}
