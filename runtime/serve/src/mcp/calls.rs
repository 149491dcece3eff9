//! What each tool does. A problem that the caller can act on is a result, in words or as its verdict, and never an error
//! of the protocol: clients do not show those to the model that called.

use rmcp::model::{CallToolResult, Content, JsonObject, Meta, ProgressNotificationParam};
use rmcp::service::{Peer, RequestContext, RoleServer};
use selkie_edit::{Catalogue, Context, Domain, Refused, SelfEdit, selkie_form_help};
use selkie_engine::live::{
    AdapterChoice, Budget, EditRequest, EditState, EditStatus, EditText, End, EndReason, GenerateRequest,
    Happened, Live, LiveError, Message, Permission, Prompt, Scope, SelfEditTerms, TraceEvent, Trigger,
};
use selkie_learn::{Grammar, SamplingSettings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::arguments::{self, EditScope, TighterBudget};
use super::over_http::Bounds;
use super::results::{self, Outcome};
use super::tools::{Tool, name};
use super::{SCORES_MAX, Server};
use crate::terms::{check_stops, may_roll_back};

/// Entries of the log in one answer.
const ENTRIES_MAX: usize = 100;

/// Why a call has no result, in words for the model that called.
#[derive(Debug)]
struct Failure(String);

impl From<LiveError> for Failure {
    fn from(error: LiveError) -> Failure {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Failure(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        Failure(message.to_owned())
    }
}

/// Carries out one call.
pub(super) async fn call(
    server: &Server,
    tool: Tool,
    arguments: JsonObject,
    context: &RequestContext<RoleServer>,
) -> CallToolResult {
    let result = tokio::select! {
        // A call that was over in time is answered only if it was seen in time.
        biased;
        why = over(context) => Err(Failure(why)),
        result = answer(server, tool, arguments, context) => result,
    };
    match result {
        Ok(value) => CallToolResult::structured(value),
        Err(Failure(message)) => CallToolResult::error(vec![Content::text(message)]),
    }
}

/// Waits until a call is to end before it is answered, and says why.
async fn over(context: &RequestContext<RoleServer>) -> String {
    let bounds = async {
        match Bounds::of(&context.extensions) {
            Some(bounds) => bounds.reached().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = context.ct.cancelled() => "the call was cancelled".to_owned(),
        why = bounds => why,
    }
}

async fn answer(
    server: &Server,
    tool: Tool,
    arguments: JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<Value, Failure> {
    let live = &server.live;
    match tool {
        Tool::SelfEditSchema => on_thread(live, read(tool, arguments)?, how_to).await,
        Tool::CheckSelfEdit => on_thread(live, read(tool, arguments)?, check).await,
        Tool::ApplySelfEdit => {
            let progress = Progress::of(&context.meta, &context.peer);
            told(apply(live, read(tool, arguments)?, progress).await?)
        }
        Tool::ListTools => on_thread(live, read(tool, arguments)?, list_tools).await,
        Tool::Score => score_in_turn(server, read(tool, arguments)?).await,
        Tool::Generate => told(generate(live, read(tool, arguments)?).await?),
        Tool::Log => on_thread(live, read(tool, arguments)?, log).await,
        Tool::Rollback => on_thread(live, read(tool, arguments)?, roll_back).await,
    }
}

/// The arguments of a tool. What is wrong with them names the argument.
fn read<Arguments: DeserializeOwned>(tool: Tool, given: JsonObject) -> Result<Arguments, Failure> {
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let at = match error.path().to_string().as_str() {
            "." => String::new(),
            path => format!(" at `{path}`"),
        };
        let error = error.into_inner();
        Failure(format!("the arguments of `{}` are not valid{at}: {error}; nothing was done", name(tool)))
    })
}

fn told(result: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(|error| Failure(format!("the result is no JSON: {error}")))
}

/// Runs what may block (the store, a tokenizer, a grammar, the model) on a thread that may.
async fn blocking<T: Send + 'static>(
    live: &Live,
    work: impl FnOnce(&Live) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let live = live.clone();
    let ended = tokio::task::spawn_blocking(move || work(&live)).await;
    ended.unwrap_or_else(|_| Err("the call ended by a fault of the server".into()))
}

/// A whole call on such a thread.
async fn on_thread<A: Send + 'static, R: Serialize>(
    live: &Live,
    arguments: A,
    work: impl FnOnce(&Live, &A) -> Result<R, Failure> + Send + 'static,
) -> Result<Value, Failure> {
    blocking(live, move |live| told(work(live, &arguments)?)).await
}

fn domain_or_first(live: &Live, domain: Option<Domain>) -> Domain {
    let first = live.runtime().model.codec().domains().first();
    domain.or(first.copied()).unwrap_or(Domain::Passage)
}

fn suited(live: &Live, domain: Domain) -> Catalogue {
    live.runtime().host.catalogue().suited(domain)
}

fn how_to(live: &Live, arguments: &arguments::ForDomain) -> Result<results::HowTo, Failure> {
    let domain = domain_or_first(live, arguments.domain);
    let catalogue = suited(live, domain);
    let schema = match selkie_edit::schema::compose(&catalogue) {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    };
    let tools = selkie_edit::tool_list(&catalogue, domain);
    let Budget { steps, tokens, seconds, .. } = live.options().budget;
    Ok(results::HowTo {
        domain,
        schema,
        in_words: format!("Tools:\n{tools}\n{}", selkie_form_help()),
        budget: results::BudgetLimits { steps, tokens, seconds },
        self_edits: live.options().permission,
    })
}

fn check(live: &Live, arguments: &arguments::Check) -> Result<results::Checked, Failure> {
    let domain = domain_or_first(live, arguments.domain);
    Ok(match live.check(&edit_text(&arguments.edit), domain) {
        Ok(edit) => results::Checked { valid: true, problems: Vec::new(), edit: Some(understood(&edit)) },
        Err(Refused(problems)) => results::Checked { valid: false, problems, edit: None },
    })
}

fn understood(edit: &SelfEdit) -> results::Understood {
    let names = |chain: &Vec<selkie_edit::ToolCall>| chain.iter().map(|call| call.tool.clone()).collect();
    results::Understood {
        form: edit.dialect,
        tools: edit.pipelines.iter().map(names).collect(),
        documents: edit.documents.len(),
        epochs: edit.training.epochs,
        learning_rate: edit.training.learning_rate,
    }
}

/// The text of an edit that came as a JSON object or as text.
fn edit_text(edit: &Value) -> String {
    match edit {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn context_of(value: &Value) -> Result<Context, Failure> {
    let context = Context::to_learn_from_json(&value.to_string(), "puzzle");
    context.map_err(|error| Failure(format!("`context` is not valid: {error}; nothing was done")))
}

/// Where the steps of a training are told, for a client that asked for it.
struct Progress {
    peer: Peer<RoleServer>,
    token: Option<rmcp::model::ProgressToken>,
}

impl Progress {
    fn of(meta: &Meta, peer: &Peer<RoleServer>) -> Progress {
        Progress { peer: peer.clone(), token: meta.get_progress_token() }
    }

    async fn tell(&self, edit: &str, event: &TraceEvent) {
        let (Some(token), true) = (&self.token, event.edit.as_deref() == Some(edit)) else { return };
        if let Happened::TrainingStep { step, steps, loss, .. } = &event.what {
            let message = loss.map_or("loss is not finite".to_owned(), |loss| format!("loss {loss:.3}"));
            let told = ProgressNotificationParam::new(token.clone(), (step + 1) as f64);
            // A client that does not listen any more is no reason to end the edit.
            let _ = self.peer.notify_progress(told.with_total(*steps as f64).with_message(message)).await;
        }
    }
}

async fn apply(
    live: &Live,
    arguments: arguments::Apply,
    progress: Progress,
) -> Result<results::Applied, Failure> {
    // Before the edit begins, so that none of its steps is missed.
    let mut trace = live.trace();
    let edit = match blocking(live, |live| begin(live, arguments)).await? {
        Ok(edit) => edit,
        Err(not_begun) => return Ok(not_begun),
    };
    let ended = live.finished(&edit);
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            biased;
            Some(event) = trace.next() => progress.tell(&edit, &event).await,
            status = &mut ended => break status?,
        }
    };
    blocking(live, |live| applied(live, status)).await
}

/// The id of an edit that was taken, or the verdict on one that was not.
fn begin(live: &Live, arguments: arguments::Apply) -> Result<Result<String, results::Applied>, Failure> {
    // Where the operator wants to be asked, the edit waits for that.
    let request = edit_request(arguments, live.options().permission)?;
    match live.submit(request) {
        Ok(edit) => Ok(Ok(edit)),
        Err(error) => not_begun(live.active()?, error).map(Err),
    }
}

fn edit_request(arguments: arguments::Apply, permission: Permission) -> Result<EditRequest, Failure> {
    let context = context_of(&arguments.context)?;
    let scope = match (arguments.scope, &arguments.session) {
        (EditScope::Global, None) => Scope::Global,
        (EditScope::Session, Some(_)) => Scope::Session,
        (EditScope::Global, Some(_)) => {
            return Err("`session` needs `scope`: \"session\"; nothing was done".into());
        }
        (EditScope::Session, None) => {
            return Err("`scope` is `session` and no `session` is named; nothing was done".into());
        }
    };
    let edit = arguments.edit.as_ref().map_or(EditText::Model, |edit| EditText::Given(edit_text(edit)));
    Ok(EditRequest {
        context,
        edit,
        seed: arguments.seed,
        budget: tighter(arguments.budget),
        scope,
        session: arguments.session,
        time_to_live: None,
        permission,
        trigger: Trigger::Call,
        fresh: arguments.fresh,
    })
}

/// A caller's numbers; what it does not say is the operator's to say.
fn tighter(budget: TighterBudget) -> Budget {
    Budget {
        edits: 1,
        steps: budget.steps.unwrap_or(u64::MAX),
        tokens: budget.tokens.unwrap_or(u64::MAX),
        seconds: budget.seconds.unwrap_or(f64::INFINITY),
    }
}

/// An edit that was not taken, as a verdict where the caller can act on it.
fn not_begun(active: String, error: LiveError) -> Result<results::Applied, Failure> {
    let nothing = move |verdict: Outcome, reason: String| results::Applied {
        verdict,
        reason,
        problems: Vec::new(),
        retry_after_seconds: None,
        generation: None,
        active,
        entry: None,
        edit: None,
        steps: 0,
        loss: None,
        before: None,
        after: None,
    };
    let reason = error.to_string();
    match error {
        LiveError::Refused(Refused(problems)) => {
            let reason = format!("the self-edit has {} problems; repair all and call again", problems.len());
            Ok(results::Applied { problems, ..nothing(Outcome::Refused, reason) })
        }
        LiveError::Busy { retry_after, .. } => {
            let retry_after_seconds = Some(retry_after.as_secs().max(1));
            Ok(results::Applied { retry_after_seconds, ..nothing(Outcome::Busy, reason) })
        }
        LiveError::Denied { .. } => Ok(nothing(Outcome::Denied, reason)),
        other => Err(other.into()),
    }
}

fn applied(live: &Live, status: EditStatus) -> Result<results::Applied, Failure> {
    let events = live.edit_events(&status.id).unwrap_or_default();
    // Of several tries of the model the last one counts.
    let problems = events.into_iter().rev().find_map(|event| match event.what {
        Happened::Refused { problems, .. } => Some(problems),
        _ => None,
    });
    let verdict = match status.state {
        EditState::Kept => Outcome::Kept,
        EditState::Discarded => Outcome::Discarded,
        EditState::Refused => Outcome::Refused,
        _ => Outcome::Failed,
    };
    let loss = status.losses.first().zip(status.losses.last());
    Ok(results::Applied {
        verdict,
        reason: status.reason.unwrap_or_default(),
        problems: problems.filter(|_| verdict == Outcome::Refused).unwrap_or_default(),
        retry_after_seconds: None,
        generation: status.generation,
        active: live.active()?,
        entry: status.entry,
        edit: status.text,
        steps: status.steps.0,
        loss: loss.map(|(first, last)| (*first, *last)),
        before: status.before,
        after: status.after,
    })
}

fn list_tools(live: &Live, arguments: &arguments::ForDomain) -> Result<results::ToolList, Failure> {
    let domain = domain_or_first(live, arguments.domain);
    let tools = suited(live, domain);
    let usable = |tool: &selkie_edit::ToolSpec| results::Usable {
        name: tool.name.clone(),
        summary: tool.summary.clone(),
        kind: tool.kind,
        parameters: tool.params_schema.clone(),
        plugin: tool.plugin.name.clone(),
        version: tool.plugin.version.clone(),
    };
    let limits = live.runtime().host.limits();
    Ok(results::ToolList {
        tools: tools.iter().map(usable).collect(),
        limits: results::CallLimits {
            fuel: limits.call_fuel,
            seconds: limits.deadline.as_secs_f64(),
            memory_bytes: limits.memory_bytes,
            items: limits.output_items,
        },
    })
}

fn choice(adapter: &str) -> AdapterChoice {
    match adapter {
        "active" => AdapterChoice::Active,
        "base" => AdapterChoice::Base,
        name => AdapterChoice::Named(name.to_owned()),
    }
}

/// The model is measured on a thread that others need too, so not by everybody at once. A call that nobody waits for any
/// more keeps its turn until it has ended.
async fn score_in_turn(server: &Server, arguments: arguments::Score) -> Result<Value, Failure> {
    let Ok(turn) = server.scores.clone().try_acquire_owned() else {
        let message = format!(
            "busy: {SCORES_MAX} calls of `score` are under way, the most at a time; nothing was measured, \
             call again when one has ended"
        );
        return Err(Failure(message));
    };
    on_thread(&server.live, arguments, move |live, arguments| {
        let scored = score(live, arguments);
        drop(turn);
        scored
    })
    .await
}

fn score(live: &Live, arguments: &arguments::Score) -> Result<results::Scored, Failure> {
    let (adapter, session) = (choice(&arguments.adapter), arguments.session.as_deref());
    let name = live.adapter_name(&adapter, session)?;
    match (&arguments.prompt, &arguments.completion, &arguments.context) {
        (Some(prompt), Some(completion), None) => {
            let score = live.score(&adapter, session, prompt, completion)?;
            let completion = results::Likelihood {
                log_prob: score.log_prob,
                log_prob_per_token: score.mean_log_prob(),
                tokens: score.tokens,
                greedy: score.greedy,
            };
            Ok(results::Scored { adapter: name, completion: Some(completion), items: None })
        }
        (None, None, Some(context)) => {
            let report = live.evaluate(&adapter, session, &context_of(context)?)?;
            let item = |item: &selkie_edit::ItemReport| results::Item {
                item: item.item.clone(),
                solved: item.solved,
                log_prob_per_token: item.log_prob,
                answer: results::answer(&item.prediction),
            };
            let items = report.items.iter().map(item).collect();
            Ok(results::Scored { adapter: name, completion: None, items: Some(items) })
        }
        _ => Err("`score` takes `prompt` with `completion`, or `context`".into()),
    }
}

async fn generate(live: &Live, arguments: arguments::Generate) -> Result<results::Generated, Failure> {
    let reply = blocking(live, |live| Ok(live.generate(generate_request(arguments)?)?)).await?;
    // Dropping the reply, when the call is cancelled, cancels the request.
    let End { reason, prompt_tokens, tokens, adapter, text, .. } = reply.end().await?;
    let finish_reason = match reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Cancelled => return Err("the request was cancelled".into()),
        EndReason::Failed(message) => return Err(Failure(message)),
    };
    Ok(results::Generated { text, finish_reason: finish_reason.to_owned(), adapter, prompt_tokens, tokens })
}

fn generate_request(arguments: arguments::Generate) -> Result<GenerateRequest, Failure> {
    let prompt = match (arguments.prompt, arguments.messages, &arguments.context) {
        (Some(prompt), None, None) => Prompt::Text(prompt),
        (None, Some(messages), None) => {
            let message = |said: arguments::Said| Message { role: said.role, content: said.content };
            Prompt::Chat(messages.into_iter().map(message).collect())
        }
        (None, None, Some(context)) => Prompt::Item(context_of(context)?, arguments.item),
        _ => return Err("`generate` takes one of `prompt`, `messages` and `context`".into()),
    };
    check_stops(&arguments.stop).map_err(Failure)?;
    let sampling = SamplingSettings {
        temperature: arguments.temperature,
        top_k: None,
        top_p: arguments.top_p,
        seed: arguments.seed,
    };
    Ok(GenerateRequest {
        prompt,
        adapter: choice(&arguments.adapter),
        session: arguments.session,
        sampling,
        max_tokens: arguments.max_tokens,
        stop: arguments.stop,
        grammar: arguments.json_schema.map(Grammar::JsonSchema),
        // Another model asks; when this one is edited is for `apply_self_edit` to say.
        self_edit: SelfEditTerms { permission: Permission::Deny, ..SelfEditTerms::default() },
    })
}

fn log(live: &Live, arguments: &arguments::Log) -> Result<results::Log, Failure> {
    let entries = live.log(arguments.limit.clamp(1, ENTRIES_MAX))?;
    Ok(results::Log {
        active: live.active()?,
        entries: entries.iter().map(entry).collect(),
        adapters: live.adapters()?,
    })
}

fn entry(entry: &selkie_store::Entry) -> results::Entry {
    use selkie_store::{Event, Outcome};
    let told = results::Entry { id: entry.id.to_string(), time_ms: entry.time_ms(), ..Default::default() };
    let episode = match &entry.event {
        Event::Rollback(rollback) => {
            let generation = rollback.to.map(|id| id.to_string());
            return results::Entry { what: "rollback", generation, ..told };
        }
        Event::Episode(episode) => episode,
    };
    let (what, generation, reason) = match &episode.outcome {
        Outcome::Kept { generation, .. } => ("kept", Some(generation.to_string()), None),
        Outcome::Discarded { .. } => ("discarded", None, None),
        Outcome::Refused(refusal) => ("refused", None, Some(refusal.reason.clone())),
    };
    let trial = episode.outcome.trial();
    results::Entry {
        what,
        context: Some(episode.record.context.name.clone()),
        generation,
        score_before: trial.map(|trial| trial.before.score),
        score_after: trial.map(|trial| trial.after.score),
        reason,
        ..told
    }
}

fn roll_back(live: &Live, arguments: &arguments::Rollback) -> Result<results::RolledBack, Failure> {
    may_roll_back(live)?;
    let was = live.active()?;
    let active = live.rollback_to(&arguments.to)?;
    Ok(results::RolledBack { was, active })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::Room;

    #[tokio::test]
    async fn one_score_too_many_is_told_to_come_again() {
        let room = Room::new();
        let server = Server::new(room.live.clone());
        let asked = serde_json::json!({ "prompt": "The gem of", "completion": " Vidor" });
        let given = || serde_json::from_value(asked.clone()).expect("arguments");
        let turns = server.scores.clone().try_acquire_many_owned(SCORES_MAX as u32).expect("both");
        let Failure(said) = score_in_turn(&server, given()).await.expect_err("refused");
        insta::assert_snapshot!(said, @"busy: 2 calls of `score` are under way, the most at a time; nothing was measured, call again when one has ended");
        drop(turns);
        for _ in 0..=SCORES_MAX {
            let scored = score_in_turn(&server, given()).await.expect("a score");
            assert_eq!(scored["adapter"], "base");
        }
    }
}
