//! Models, completions and chat.

use serde_json::{Value, json};

use super::support::{Answer, Room, passage, quick_edit};

/// A question that the bundled model answers from its pretraining or from the quick edit.
const QUESTION: &str = "Tell me the gem of Vidor Volgan.";

fn asking(more: &Value) -> Value {
    let mut request = json!({ "messages": [{ "role": "user", "content": QUESTION }] });
    let (Some(request_members), Some(more)) = (request.as_object_mut(), more.as_object()) else {
        panic!("objects");
    };
    request_members.extend(more.clone());
    request
}

/// The data of the server-sent events; the last must be `[DONE]`.
fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let mut data: Vec<&str> =
        answer.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{}", answer.text);
    data.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[tokio::test]
async fn a_chat_has_the_form_that_clients_know() {
    let room = Room::new();
    let answer = room.post("/v1/chat/completions", &asking(&json!({ "logprobs": true }))).await.ok();
    let text = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(!text.is_empty());
    for (pointer, expected) in [
        ("/object", json!("chat.completion")),
        ("/created", json!(1_700_000_000)),
        ("/model", json!("pup-facts")),
        ("/choices/0/index", json!(0)),
        ("/choices/0/message/role", json!("assistant")),
        ("/choices/0/finish_reason", json!("stop")),
        ("/adapter_generation", json!("base")),
    ] {
        assert_eq!(answer.pointer(pointer), Some(&expected), "{pointer} in {answer}");
    }
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    let told: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
    assert_eq!(told, text);
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], tokens.len() as u64, "{answer}");
    let (prompt, all) = (usage["prompt_tokens"].as_u64(), usage["total_tokens"].as_u64());
    assert_eq!(prompt.map(|prompt| prompt + tokens.len() as u64), all, "{answer}");
    for token in tokens {
        let log_prob = token["logprob"].as_f64().expect("a number");
        assert!(log_prob <= 0.0, "{token}");
    }
}

#[tokio::test]
async fn a_streamed_answer_is_the_same_in_pieces() {
    let room = Room::new();
    let whole = room.post("/v1/chat/completions", &asking(&json!({}))).await.ok();
    let stream = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let answer = room.post("/v1/chat/completions", &asking(&stream)).await;
    let chunks = chunks(&answer);
    let (usage, pieces) = chunks.split_last().expect("pieces");
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &whole["usage"]));
    assert_eq!(pieces[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String =
        pieces.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(Some(text.as_str()), whole["choices"][0]["message"]["content"].as_str());
    let last = pieces.last().expect("a last piece");
    assert_eq!(last["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    assert_eq!(last["adapter_generation"], "base");
    for piece in pieces {
        assert_eq!(
            (&piece["object"], &piece["id"], &piece["usage"]),
            (&json!("chat.completion.chunk"), &pieces[0]["id"], &Value::Null)
        );
    }
}

#[tokio::test]
async fn completions_take_several_prompts_and_give_several_choices() {
    let room = Room::new();
    let prompts = json!({ "prompt": ["The gem of", "The tool of"], "n": 2, "max_tokens": 3, "logprobs": 0 });
    let answer = room.post("/v1/completions", &prompts).await.ok();
    let choices = answer["choices"].as_array().expect("choices");
    let indices: Vec<Option<u64>> = choices.iter().map(|choice| choice["index"].as_u64()).collect();
    assert_eq!(indices, [Some(0), Some(1), Some(2), Some(3)]);
    // Nothing is drawn at temperature 0.
    assert_eq!(choices[0]["text"], choices[1]["text"]);
    assert_eq!(choices[2]["text"], choices[3]["text"]);
    for choice in choices {
        let tokens = choice["logprobs"]["tokens"].as_array().expect("tokens");
        let text: String = tokens.iter().filter_map(Value::as_str).collect();
        assert_eq!(choice["text"], text);
    }
    let one = json!({ "prompt": "The gem of", "max_tokens": 3 });
    let one = room.post("/v1/completions", &one).await.ok();
    assert_eq!(one["choices"][0]["text"], choices[0]["text"]);
    assert_eq!(one["choices"][0]["finish_reason"], "length");
    assert_eq!(one["object"], "text_completion");
    // Drawn: the same seed says the same, choices of one request differ.
    let drawn = json!({ "prompt": "The", "max_tokens": 8, "n": 4, "temperature": 1.5, "seed": 7 });
    let [first, again] =
        [room.post("/v1/completions", &drawn).await, room.post("/v1/completions", &drawn).await]
            .map(|answer| answer.ok()["choices"].take());
    assert_eq!(first, again);
    let mut texts: Vec<String> = (0..4).map(|at| first[at]["text"].to_string()).collect();
    texts.dedup();
    assert!(texts.len() > 1, "{texts:?}");
}

#[tokio::test]
async fn a_schema_holds_the_answer() {
    let room = Room::new();
    let schema = json!({
        "type": "object",
        "properties": { "gem": { "enum": ["opal", "spinel"] }, "sure": { "type": "boolean" } },
        "required": ["gem", "sure"],
        "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
    for stream in [false, true] {
        let more = json!({ "response_format": format, "stream": stream });
        let answer = room.post("/v1/chat/completions", &asking(&more)).await;
        let text = match stream {
            false => answer.ok()["choices"][0]["message"]["content"].as_str().expect("text").to_owned(),
            true => chunks(&answer)
                .iter()
                .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
                .collect(),
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert!(["opal", "spinel"].contains(&value["gem"].as_str().expect("a gem")), "{text}");
        assert_eq!(value.as_object().map(|members| members.len()), Some(2), "{text}");
    }
    let bad = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "fish" } } });
    let refused = room.post("/v1/chat/completions", &asking(&json!({ "response_format": bad }))).await;
    assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
}

#[tokio::test]
async fn settings_that_mean_nothing_and_adapters_that_nobody_knows_are_refused() {
    let room = Room::new();
    for (more, status) in [
        (json!({ "temperature": -1 }), 400),
        (json!({ "top_p": 0 }), 400),
        (json!({ "max_tokens": 0 }), 400),
        (json!({ "max_completion_tokens": 1_000_000 }), 400),
        (json!({ "model": "gpt-5" }), 404),
        (json!({ "adapter_generation": "g7" }), 404),
        (json!({ "adapter_generation": "../home" }), 404),
        (json!({ "tools": [{ "type": "function" }] }), 400),
        (json!({ "model": "pup-facts", "user": "me" }), 200),
        (json!({ "model": "base" }), 200),
        (json!({ "model": "g7", "adapter_generation": "base" }), 200),
    ] {
        let answer = room.post("/v1/chat/completions", &asking(&more)).await;
        assert_eq!(answer.status.as_u16(), status, "{more}: {}", answer.text);
    }
}

#[tokio::test]
async fn generations_are_models_and_folders_can_be_loaded_under_a_name() {
    let mut room = Room::new();
    let edit = json!({ "context": passage(), "edit": quick_edit(), "wait": true });
    let edit = room.post("/v1/self_edits", &edit).await.ok();
    assert_eq!((&edit["state"], &edit["generation"]), (&json!("kept"), &json!("g1")), "{edit}");
    let cards = room.get("/v1/models").await.ok();
    let cards: Vec<(&Value, &Value, &Value)> = cards["data"]
        .as_array()
        .expect("cards")
        .iter()
        .map(|card| (&card["id"], &card["parent"], &card["active"]))
        .collect();
    let (base, none) = (json!("base"), Value::Null);
    let expected = [
        (&json!("pup-facts"), &none, &json!(true)),
        (&base, &none, &json!(false)),
        (&json!("g1"), &base, &json!(true)),
    ];
    assert_eq!(cards, expected);
    let says = async |room: &Room, name: &str| {
        let answer = room.post("/v1/chat/completions", &asking(&json!({ "model": name }))).await.ok();
        let adapter = answer["adapter_generation"].as_str().expect("a name").to_owned();
        (answer["choices"][0]["message"]["content"].clone(), adapter)
    };
    assert_eq!(says(&room, "pup-facts").await, (json!("spinel"), "g1".to_owned()));
    assert_eq!(says(&room, "g1").await, (json!("spinel"), "g1".to_owned()));
    assert_ne!(says(&room, "base").await.0, json!("spinel"));
    // The same adapter as a folder of the operator's.
    let folder = room.home.path().join("adapters");
    let store = selkie_store::Store::read_only(&room.live.options().home).expect("a store");
    let generation = store.find_generation("g1").expect("a generation").id;
    std::fs::create_dir_all(&folder).expect("a folder");
    store.export(generation, &folder.join("gems")).expect("exported");
    room.options.adapters = Some(folder);
    let load = json!({ "lora_name": "gems", "lora_path": "gems" });
    let card = room.post("/v1/load_lora_adapter", &load).await.ok();
    assert_eq!((&card["name"], &card["origin"]), (&json!("gems"), &json!("loaded")));
    assert_eq!(says(&room, "gems").await, (json!("spinel"), "gems".to_owned()));
    let card = room.get("/v1/models/gems").await.ok();
    assert_eq!((&card["root"], &card["parent"]), (&json!("pup-facts"), &json!("pup-facts")));
    for name in ["../gems", "base", "g2", "pup-facts", "", "a b"] {
        let load = json!({ "lora_name": name, "lora_path": "gems" });
        assert_eq!(room.post("/v1/load_lora_adapter", &load).await.status.as_u16(), 400, "{name}");
    }
    let unload = json!({ "lora_name": "gems" });
    room.post("/v1/unload_lora_adapter", &unload).await.ok();
    let again = room.post("/v1/unload_lora_adapter", &unload).await;
    assert_eq!(again.error(), (404, "model_not_found".to_owned()));
}

#[tokio::test]
async fn a_puzzle_in_a_message_is_answered_with_a_grid() {
    let room = Room::with_puzzles();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/puzzles/pup_0005.json");
    let puzzle = std::fs::read_to_string(path).expect("an example");
    let ask = json!({ "messages": [{ "role": "user", "content": puzzle }] });
    let answer = room.post("/v1/chat/completions", &ask).await.ok();
    let text = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let grid: Vec<Vec<u8>> = serde_json::from_str(text).expect("a grid");
    assert_eq!((grid.len(), grid[0].len()), (5, 5), "{text}");
    let mut stream = ask.clone();
    stream["stream"] = json!(true);
    let streamed: String = chunks(&room.post("/v1/chat/completions", &stream).await)
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(streamed, text);
    let question = room.post("/v1/chat/completions", &asking(&json!({}))).await;
    assert_eq!(question.status.as_u16(), 400, "{}", question.text);
    assert!(question.text.contains("the model understands puzzles"), "{}", question.text);
}
