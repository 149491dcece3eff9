//! The adapters that requests may name, and which one a request gets.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use selkie_learn::{Adapter, Model, peft};
use selkie_store::{AdapterFiles, ContentId, GenerationId, Reader};

use super::request::AdapterChoice;
use super::{AdapterCard, LiveError, locked};

/// Generations whose adapters stay in memory; others are read again when they are asked for.
const GENERATIONS_MAX: usize = 32;

/// Sessions that have an adapter of their own; the one that was used longest ago is forgotten first.
const SESSIONS_MAX: usize = 1000;

/// Generations that are listed, newest first.
const LISTED_MAX: usize = 200;

/// Adapters that may be loaded at a time.
const LOADED_MAX: usize = 64;

/// Characters of an adapter's name.
const NAME_CHARS_MAX: usize = 64;

/// The adapter of a request.
#[derive(Clone)]
pub(super) struct Chosen {
    /// `base`, a generation, or a loaded adapter.
    pub(super) name: String,
    /// On the decoder's device.
    pub(super) adapter: Option<Arc<Adapter>>,
    /// The generation that it is.
    pub(super) generation: Option<GenerationId>,
}

impl Chosen {
    pub(super) fn base() -> Chosen {
        Chosen { name: "base".to_owned(), adapter: None, generation: None }
    }
}

struct Loaded {
    adapter: Arc<Adapter>,
    content: ContentId,
}

struct Session {
    chosen: Chosen,
    expires_ms: i64,
    time_to_live_ms: i64,
}

pub(super) struct Adapters {
    model: Arc<Model>,
    reader: Mutex<Reader>,
    generations: Mutex<HashMap<GenerationId, Arc<Adapter>>>,
    loaded: Mutex<BTreeMap<String, Loaded>>,
    sessions: Mutex<HashMap<String, Session>>,
    /// The adapter that asks for self-edits, where the model came with one.
    asks: Option<Arc<Adapter>>,
}

impl Adapters {
    pub(super) fn new(model: Arc<Model>, reader: Reader) -> Result<Adapters, LiveError> {
        let asks = model.decoder().adopt(model.asks())?.map(Arc::new);
        Ok(Adapters {
            model,
            reader: Mutex::new(reader),
            generations: Mutex::default(),
            loaded: Mutex::default(),
            sessions: Mutex::default(),
            asks,
        })
    }

    /// What a request is answered with. Where it may edit itself and nothing was learned yet, a model that has learned
    /// to ask for self-edits does.
    pub(super) fn choose(
        &self,
        choice: &AdapterChoice,
        session: Option<&str>,
        may_ask: bool,
        now_ms: i64,
    ) -> Result<Chosen, LiveError> {
        let chosen = match choice {
            AdapterChoice::Base => Chosen::base(),
            AdapterChoice::Active => match session.and_then(|session| self.of_session(session, now_ms)) {
                Some(own) => own,
                None => self.active()?,
            },
            AdapterChoice::Named(name) => self.named(name)?,
        };
        if may_ask && chosen.adapter.is_none() && *choice == AdapterChoice::Active {
            return Ok(Chosen { adapter: self.asks.clone(), ..chosen });
        }
        Ok(chosen)
    }

    /// What is active for everybody.
    pub(super) fn active(&self) -> Result<Chosen, LiveError> {
        let active = locked(&self.reader).active(self.model.digest())?;
        match active {
            Some(generation) => self.generation(generation.id),
            None => Ok(Chosen::base()),
        }
    }

    /// A generation of this model by its name.
    pub(super) fn generation_named(&self, name: &str) -> Result<GenerationId, LiveError> {
        Ok(locked(&self.reader).find_generation(name)?.id)
    }

    pub(super) fn log(&self, limit: usize) -> Result<Vec<selkie_store::Entry>, LiveError> {
        Ok(locked(&self.reader).log(limit)?)
    }

    fn named(&self, name: &str) -> Result<Chosen, LiveError> {
        if name == "base" {
            return Ok(Chosen::base());
        }
        if let Some(loaded) = locked(&self.loaded).get(name) {
            let adapter = Some(loaded.adapter.clone());
            return Ok(Chosen { name: name.to_owned(), adapter, generation: None });
        }
        let unknown = || LiveError::UnknownAdapter { name: name.to_owned() };
        let found = locked(&self.reader).find_generation(name).map_err(|_| unknown())?;
        if found.base_digest != self.model.digest() {
            return Err(unknown());
        }
        self.generation(found.id)
    }

    fn generation(&self, id: GenerationId) -> Result<Chosen, LiveError> {
        let known = locked(&self.generations).get(&id).cloned();
        let adapter = match known {
            Some(adapter) => adapter,
            None => {
                let files = {
                    let reader = locked(&self.reader);
                    reader.adapter_files(&reader.generation(id)?.adapter)?
                };
                self.remember(id, peft::from_files(self.model.decoder().config(), &files)?)?
            }
        };
        Ok(Chosen { name: id.to_string(), adapter: Some(adapter), generation: Some(id) })
    }

    /// A new generation, so that it need not be read.
    pub(super) fn remember(&self, id: GenerationId, adapter: Adapter) -> Result<Arc<Adapter>, LiveError> {
        let adapter = Arc::new(self.model.decoder().adopt(Some(&adapter))?.unwrap_or(adapter));
        let mut generations = locked(&self.generations);
        if generations.len() >= GENERATIONS_MAX
            && let Some(&oldest) = generations.keys().min()
        {
            generations.remove(&oldest);
        }
        generations.insert(id, adapter.clone());
        Ok(adapter)
    }

    fn of_session(&self, name: &str, now_ms: i64) -> Option<Chosen> {
        let mut sessions = locked(&self.sessions);
        sessions.retain(|_, session| session.expires_ms > now_ms);
        let session = sessions.get_mut(name)?;
        session.expires_ms = now_ms.saturating_add(session.time_to_live_ms);
        Some(session.chosen.clone())
    }

    /// From here on the session's requests get this adapter.
    pub(super) fn set_session(&self, name: &str, chosen: Chosen, now_ms: i64, time_to_live_ms: i64) {
        let mut sessions = locked(&self.sessions);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.expires_ms);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                sessions.remove(&oldest);
            }
        }
        let expires_ms = now_ms.saturating_add(time_to_live_ms);
        sessions.insert(name.to_owned(), Session { chosen, expires_ms, time_to_live_ms });
    }

    pub(super) fn load(&self, name: &str, folder: &Path) -> Result<AdapterCard, LiveError> {
        self.check_name(name)?;
        let not_one = |reason: String| LiveError::NotAnAdapter { folder: folder.to_owned(), reason };
        let files: AdapterFiles = peft::files_of(folder).map_err(|error| not_one(error.to_string()))?;
        let config = self.model.decoder().config();
        let adapter = peft::from_files(config, &files).map_err(|error| not_one(error.to_string()))?;
        let adopted =
            self.model.decoder().adopt(Some(&adapter)).map_err(|error| not_one(error.to_string()))?;
        let content = ContentId::of(&files)?;
        let loaded = Loaded { adapter: Arc::new(adopted.unwrap_or(adapter)), content };
        let card = card_of(name, &loaded);
        let mut all = locked(&self.loaded);
        if all.len() >= LOADED_MAX && !all.contains_key(name) {
            let reason = "64 adapters are loaded already; unload one first";
            return Err(LiveError::AdapterName { name: name.to_owned(), reason });
        }
        all.insert(name.to_owned(), loaded);
        Ok(card)
    }

    fn check_name(&self, name: &str) -> Result<(), LiveError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_generation =
            name.strip_prefix('g').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
        let reason = if name.is_empty() || name.len() > NAME_CHARS_MAX {
            "expected 1 to 64 characters"
        } else if !name.bytes().all(plain) || name.starts_with('.') {
            "expected letters, digits, `.`, `_` and `-`, and no `.` first"
        } else if is_generation || ["base", "active", "parent"].contains(&name) {
            "that is the name of something else"
        } else if name == self.model.profile().name {
            "that is the name of the base model"
        } else {
            return Ok(());
        };
        Err(LiveError::AdapterName { name: name.to_owned(), reason })
    }

    pub(super) fn unload(&self, name: &str) -> Result<(), LiveError> {
        let removed = locked(&self.loaded).remove(name);
        removed.map(drop).ok_or_else(|| LiveError::UnknownAdapter { name: name.to_owned() })
    }

    /// Whether what an adapter was trained on, or what that was trained on, is this context.
    pub(super) fn has_learned(
        &self,
        chosen: &Chosen,
        context: &selkie_edit::Context,
    ) -> Result<bool, LiveError> {
        let content = context.to_json();
        let reader = locked(&self.reader);
        let mut next = chosen.generation;
        while let Some(id) = next {
            let generation = reader.generation(id)?;
            let entry = reader.entry(generation.entry)?;
            let same = |episode: &selkie_store::Episode| episode.record.context.content == content;
            if entry.episode().is_some_and(same) {
                return Ok(true);
            }
            next = generation.parent;
        }
        Ok(false)
    }

    pub(super) fn cards(&self) -> Result<Vec<AdapterCard>, LiveError> {
        let mut cards = Vec::new();
        let reader = locked(&self.reader);
        let active = reader.active(self.model.digest())?.map(|generation| generation.id);
        cards.push(AdapterCard {
            name: "base".to_owned(),
            parent: None,
            active: active.is_none(),
            content: None,
            origin: "base".to_owned(),
            context: None,
            edit: None,
        });
        let ours = |generation: &selkie_store::Generation| generation.base_digest == self.model.digest();
        for generation in reader.generations()?.into_iter().filter(ours).take(LISTED_MAX) {
            let entry = reader.entry(generation.entry)?;
            cards.push(AdapterCard {
                name: generation.id.to_string(),
                parent: Some(generation.parent.map_or_else(|| "base".to_owned(), |id| id.to_string())),
                active: active == Some(generation.id),
                content: Some(generation.adapter.to_string()),
                origin: "generation".to_owned(),
                context: entry.episode().map(|episode| episode.record.context.name.clone()),
                edit: Some(generation.entry.to_string()),
            });
        }
        cards.extend(locked(&self.loaded).iter().map(|(name, loaded)| card_of(name, loaded)));
        Ok(cards)
    }
}

fn card_of(name: &str, loaded: &Loaded) -> AdapterCard {
    AdapterCard {
        name: name.to_owned(),
        parent: None,
        active: false,
        content: Some(loaded.content.to_string()),
        origin: "loaded".to_owned(),
        context: None,
        edit: None,
    }
}
