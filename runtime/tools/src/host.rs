//! The plugin host: loads components, keeps their catalogue, calls their tools.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use selkie_edit::{
    Catalogue, PlannedCall, PluginId, Score, Submission, Task, TextSource, ToolLimits, ToolRun, ToolSpec,
    derive_seed,
};

use crate::call::{Done, Usage};
use crate::compile::Compiler;
use crate::component::{self, Plugin};
use crate::error::ToolError;
use crate::laws::{self, BrokenLaw, LawReport, Quarantine};
use crate::limits::{BATCH_BYTES_MAX, Limits, PLUGINS_MAX};
use crate::manifest::{Laws, Manifest};
use crate::model::{Grants, MissingKey};
use crate::work::{Batch, Made, Work};
use crate::worker::Worker;

/// A component of `plugins/dist` with its manifest.
macro_rules! built_in {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../plugins/dist/", $name, ".wasm")),
            include_str!(concat!("../../../plugins/dist/", $name, ".manifest.json")),
        )
    };
}

/// The components that are part of the binary: name, bytes, manifest.
const BUILT_IN: [(&str, &[u8], &str); 4] =
    [built_in!("grid"), built_in!("text"), built_in!("graders"), built_in!("judge")];

/// What a host loads and how it confines it.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Whether the built-in plugins are loaded.
    pub built_in: bool,
    /// A folder whose components (`*.wasm`) are loaded, by name; and its shared libraries, if they are listed.
    pub plugins: Option<PathBuf>,
    /// The limits on every plugin.
    pub limits: Limits,
    /// What the operator grants.
    pub grants: Grants,
    /// A folder for compiled code, of this user alone; none compiles at every start.
    pub cache: Option<PathBuf>,
    /// How this program starts itself as another process: to compile within a deadline, and to run native plugins.
    /// None compiles here, and runs no native plugin.
    pub worker: Option<Worker>,
    /// SHA-256 (64 hex digits) of the shared libraries in the folder that may be run as they are.
    pub native: Vec<String>,
}

impl HostOptions {
    /// The built-in plugins and those of the folder, under the usual limits, with nothing granted.
    pub fn new(plugins: Option<PathBuf>) -> HostOptions {
        HostOptions {
            built_in: true,
            plugins,
            limits: Limits::default(),
            grants: Grants::none(),
            cache: None,
            worker: None,
            native: Vec::new(),
        }
    }
}

/// Loaded plugins. Calls need no exclusive access: every batch has a store of its own.
pub struct ToolHost {
    options: HostOptions,
    compiler: Compiler,
    loaded: Loaded,
    watch: Watch,
}

/// What a host has seen of its tools.
#[derive(Default)]
struct Watch {
    quarantine: Quarantine,
    /// Tools that have been called: the first batch of each is sampled.
    known: Mutex<HashSet<String>>,
}

/// One set of plugins that fit together.
#[derive(Default)]
struct Loaded {
    plugins: Vec<std::sync::Arc<Plugin>>,
    /// By full name: which plugin, and the tool's laws.
    tools: BTreeMap<String, (usize, Laws)>,
    catalogue: Catalogue,
}

/// What a tool made, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult<T> {
    /// Its answer, checked.
    pub made: T,
    /// Batches it took.
    pub calls: u64,
    /// Fuel it used; the same for the same call and input.
    pub fuel: u64,
    /// The most that one batch used of each budget.
    pub peak: Usage,
    /// What it logged, batch after batch; any text.
    pub log: String,
}

impl std::fmt::Debug for ToolHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plugins()).finish()
    }
}

impl ToolHost {
    /// Loads all plugins.
    ///
    /// # Errors
    /// The first plugin that does not load, in the order built-in, then by file name.
    pub fn new(options: HostOptions) -> Result<ToolHost, ToolError> {
        let compiler = Compiler::new(&options)?;
        let loaded = Loaded::of(&options, &compiler, None)?;
        Ok(ToolHost::watched(options, compiler, loaded))
    }

    /// A host of these components alone, each with the name that errors give it before it has its own.
    ///
    /// # Errors
    /// The first component that does not load.
    pub fn of_components<'a>(
        components: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        limits: Limits,
    ) -> Result<ToolHost, ToolError> {
        ToolHost::of_components_with(components, limits, Grants::none())
    }

    /// The same with grants.
    ///
    /// # Errors
    /// As [`ToolHost::of_components`], and when something is granted to a plugin that does not ask.
    pub fn of_components_with<'a>(
        components: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        limits: Limits,
        grants: Grants,
    ) -> Result<ToolHost, ToolError> {
        let options = HostOptions { built_in: false, limits, grants, ..HostOptions::new(None) };
        let compiler = Compiler::new(&options)?;
        let mut loaded = Loaded::default();
        for (name, bytes) in components {
            loaded.add(component::load(&compiler, &options.limits, name, bytes)?.into());
        }
        loaded.finish(&options.grants)?;
        Ok(ToolHost::watched(options, compiler, loaded))
    }

    /// A host of one file's component alone; of the options, `built_in` and `plugins` do not count.
    ///
    /// # Errors
    /// When the file cannot be read or the component does not load.
    pub fn of_file(path: &Path, options: HostOptions) -> Result<ToolHost, ToolError> {
        let options = HostOptions { built_in: false, plugins: None, ..options };
        let compiler = Compiler::new(&options)?;
        let bytes = read_bounded(path, options.limits.component_bytes)?;
        let mut loaded = Loaded::default();
        loaded.add(component::load(&compiler, &options.limits, &origin(path), &bytes)?.into());
        loaded.finish(&options.grants)?;
        Ok(ToolHost::watched(options, compiler, loaded))
    }

    /// The same plugins with other grants.
    ///
    /// # Errors
    /// When something is granted to a plugin that does not ask.
    pub fn with_grants(mut self, grants: Grants) -> Result<ToolHost, ToolError> {
        self.loaded.finish(&grants)?;
        self.options.grants = grants;
        Ok(self)
    }

    /// With what was kept about its plugins.
    fn watched(options: HostOptions, compiler: Compiler, loaded: Loaded) -> ToolHost {
        let watch = Watch::default();
        for plugin in &loaded.plugins {
            for broken in compiler.quarantined(&plugin.id.digest) {
                watch.quarantine.put(&broken.tool.clone(), broken);
            }
        }
        ToolHost { options, compiler, loaded, watch }
    }

    /// The host as it would be if it were made now: components that are new or different are loaded, those that
    /// are gone are dropped, all others are taken over. This one stays as it is, and serves for as long as anybody
    /// holds it.
    ///
    /// # Errors
    /// As [`ToolHost::new`].
    pub fn reloaded(&self) -> Result<ToolHost, ToolError> {
        let loaded = Loaded::of(&self.options, &self.compiler, Some(&self.loaded))?;
        let host = ToolHost::watched(self.options.clone(), self.compiler.clone(), loaded);
        for broken in self.watch.quarantine.all() {
            // A plugin that has been replaced starts anew.
            let plugin = |host: &ToolHost| host.catalogue().get(&broken.tool).map(|tool| tool.plugin.clone());
            if plugin(&host).is_some() && plugin(&host) == plugin(self) {
                host.watch.quarantine.put(&broken.tool.clone(), broken);
            }
        }
        Ok(host)
    }

    /// The limits on every plugin.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The tools that are loaded.
    pub fn catalogue(&self) -> &Catalogue {
        &self.loaded.catalogue
    }

    /// The plugins that are loaded, in the order they were.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginId> {
        self.loaded.plugins.iter().map(|plugin| &plugin.id)
    }

    /// Their manifests, in the same order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.loaded.plugins.iter().map(|plugin| &plugin.manifest)
    }

    /// What a plugin's component imports, by name; none for a plugin that is not loaded.
    ///
    /// # Errors
    /// When it is built in and does not compile.
    pub fn imports(&self, plugin: &PluginId) -> Result<Vec<String>, ToolError> {
        self.loaded.plugin(plugin).map_or_else(|| Ok(Vec::new()), |plugin| plugin.imports(&self.compiler))
    }

    /// The version of the plugin interface that a plugin's component was made for, such as `0.2`; none for a plugin
    /// that is no component or not loaded.
    ///
    /// # Errors
    /// When it is built in and does not compile.
    pub fn contract(&self, plugin: &PluginId) -> Result<Option<&'static str>, ToolError> {
        self.loaded.plugin(plugin).map_or(Ok(None), |plugin| plugin.contract(&self.compiler))
    }

    /// Applies a puzzle augmenter to tasks, in as many batches as it takes.
    ///
    /// # Errors
    /// When the tool or its plugin is not the planned one, and whatever goes wrong in the guest.
    pub fn augment(&self, call: &PlannedCall, tasks: &[Task]) -> Result<CallResult<Vec<Task>>, ToolError> {
        self.augment_within(call, tasks, ToolLimits::default())
    }

    fn augment_within(
        &self,
        call: &PlannedCall,
        tasks: &[Task],
        narrowed: ToolLimits,
    ) -> Result<CallResult<Vec<Task>>, ToolError> {
        let mut made = Vec::new();
        let result = self.run(call, Work::Tasks(tasks), narrowed, &mut |answer| {
            if let Made::Tasks(tasks) = answer {
                made.extend(tasks);
            }
        })?;
        Ok(result.with(made))
    }

    /// Applies a text augmenter to sources: for each, its documents.
    ///
    /// # Errors
    /// As [`ToolHost::augment`].
    pub fn write(
        &self,
        call: &PlannedCall,
        sources: &[TextSource],
    ) -> Result<CallResult<Vec<Vec<String>>>, ToolError> {
        self.write_within(call, sources, ToolLimits::default())
    }

    fn write_within(
        &self,
        call: &PlannedCall,
        sources: &[TextSource],
        narrowed: ToolLimits,
    ) -> Result<CallResult<Vec<Vec<String>>>, ToolError> {
        let mut made = Vec::new();
        let result = self.run(call, Work::Sources(sources), narrowed, &mut |answer| {
            if let Made::Documents(documents) = answer {
                made.extend(documents);
            }
        })?;
        Ok(result.with(made))
    }

    /// Applies a grader to submissions, without any check of its honesty: [`crate::grading`] has those.
    ///
    /// # Errors
    /// As [`ToolHost::augment`], and [`ToolError::Grader`] for a score that is none.
    pub(crate) fn scores(
        &self,
        call: &PlannedCall,
        submissions: &[Submission],
    ) -> Result<CallResult<Vec<Score>>, ToolError> {
        let mut made = Vec::new();
        let result =
            self.run(call, Work::Submissions(submissions), ToolLimits::default(), &mut |answer| {
                if let Made::Scores(scores) = answer {
                    made.extend(scores);
                }
            })?;
        Ok(result.with(made))
    }

    /// Carries out a planned call batch by batch.
    fn run(
        &self,
        call: &PlannedCall,
        work: Work<'_>,
        narrowed: ToolLimits,
        take: &mut dyn FnMut(Made),
    ) -> Result<CallResult<()>, ToolError> {
        let (plugin, laws) = self.loaded.find(call, work)?;
        if let Some(broken) = self.watch.quarantine.of(&call.tool) {
            let plugin = plugin.label.clone();
            return Err(ToolError::Quarantined { plugin, broken: Box::new(broken) });
        }
        let limits = &self.options.limits;
        let mut result =
            CallResult { made: (), calls: 0, fuel: 0, peak: Usage::default(), log: String::new() };
        // A batch has a budget of model calls, so items that may take some do not share one.
        let items = if plugin.asks_for_model() { 1 } else { limits.batch_items };
        for (index, part) in work.batches(items, BATCH_BYTES_MAX).into_iter().enumerate() {
            // A tool that says the seed does not matter is not shown it.
            let seed = if laws.deterministic { 0 } else { batch_seed(call.seed, index) };
            let batch = Batch { tool: &call.tool, params: &call.params, seed, work: part };
            let done = self.granted(plugin, &batch, narrowed)?;
            self.hold(plugin, laws, &batch, &done.made, narrowed)?;
            take(done.made);
            result.calls += 1;
            result.fuel += done.usage.fuel;
            result.peak = result.peak.max(done.usage);
            result.log += &done.log;
        }
        Ok(result)
    }

    /// One batch with what is granted to the plugin and not taken away by the edit. No law is looked at.
    fn granted(&self, plugin: &Plugin, batch: &Batch<'_>, narrowed: ToolLimits) -> Result<Done, ToolError> {
        let limits = &self.options.limits.narrowed(narrowed);
        let until = Instant::now() + limits.deadline;
        let mut model = self.options.grants.access(&plugin.id.name, plugin.asks_for_model(), until);
        model.narrow(narrowed);
        plugin.run(&self.compiler, limits, batch, model)
    }

    /// One batch, uncut, whatever the tool promises: for those who measure and try tools.
    pub(crate) fn once(&self, plugin: &PluginId, batch: &Batch<'_>) -> Result<Done, ToolError> {
        let unknown = || ToolError::UnknownTool { tool: batch.tool.into() };
        self.granted(self.loaded.plugin(plugin).ok_or_else(unknown)?, batch, ToolLimits::default())
    }

    /// Holds an answer to the tool's laws: those that it shows by itself, and in some batches those that take
    /// further calls, under the same limits. A tool that breaks one is not called again.
    fn hold(
        &self,
        plugin: &Plugin,
        laws: &Laws,
        batch: &Batch<'_>,
        made: &Made,
        narrowed: ToolLimits,
    ) -> Result<(), ToolError> {
        let broken = match laws::answer::broken(laws, batch, made) {
            None if self.is_sampled(plugin, batch) => {
                let mut run = |tool: &str, params: &str, seed: u64, work: Work<'_>| {
                    let batch = Batch { tool, params, seed, work };
                    self.granted(plugin, &batch, narrowed).map(|done| done.made)
                };
                // A sample that fails shows nothing about a law.
                laws::sample::sampled(laws, batch, &mut run).unwrap_or(None)
            }
            broken => broken,
        };
        let Some(broken) = broken else { return Ok(()) };
        self.compiler.quarantine(&plugin.id.digest, &broken);
        self.watch.quarantine.put(batch.tool, broken.clone());
        Err(ToolError::Quarantined { plugin: plugin.label.clone(), broken: Box::new(broken) })
    }

    /// The first batch of a tool in a host's life, and then some. What a model said cannot be had again for nothing,
    /// so tools that ask one are not sampled.
    fn is_sampled(&self, plugin: &Plugin, batch: &Batch<'_>) -> bool {
        let mut known = self.watch.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = known.insert(batch.tool.to_owned());
        drop(known);
        !plugin.asks_for_model() && (is_first || laws::sample::is_sampled(batch))
    }

    /// Puts a plugin's tools to the test with generated parameters and inputs: its laws, its parameter schemas, and
    /// that calls can be repeated. `cases` for each law; the same seed makes the same cases.
    pub fn check_laws(&self, plugin: &PluginId, cases: u32, seed: u64) -> Option<LawReport> {
        let plugin = self.loaded.plugin(plugin)?;
        let mut run = |tool: &str, params: &str, seed: u64, work: Work<'_>| {
            let batch = Batch { tool, params, seed, work };
            self.granted(plugin, &batch, ToolLimits::default()).map(|done| done.made)
        };
        Some(laws::check_laws(&plugin.manifest, &mut run, cases, seed))
    }

    /// The tools that broke a law and are not called any more.
    pub fn quarantined(&self) -> Vec<BrokenLaw> {
        self.watch.quarantine.all()
    }

    /// A record of what the tools do from now on, for one edit.
    /// An edit's own limits can only be tighter than the host's.
    pub fn session(&self, narrowed: ToolLimits) -> Session<'_> {
        Session { host: self, narrowed, runs: Vec::new() }
    }
}

impl<T> CallResult<T> {
    pub(crate) fn with<U>(self, made: U) -> CallResult<U> {
        CallResult { made, calls: self.calls, fuel: self.fuel, peak: self.peak, log: self.log }
    }
}

impl Loaded {
    /// Everything that the options name. What `before` has under the same digest is taken over.
    fn of(options: &HostOptions, compiler: &Compiler, before: Option<&Loaded>) -> Result<Loaded, ToolError> {
        let known = |id: &str| {
            before.and_then(|before| before.plugins.iter().find(|plugin| plugin.id.digest == id)).cloned()
        };
        let mut loaded = Loaded::default();
        if options.built_in {
            for (name, bytes, manifest) in BUILT_IN {
                let plugin = component::built_in(name, bytes, manifest)?;
                loaded.add(known(&plugin.id.digest).unwrap_or_else(|| plugin.into()));
            }
        }
        for path in options.plugins.as_deref().map(plugin_files).transpose()?.unwrap_or_default() {
            if !has_extension(&path, "wasm") {
                loaded.add(component::load_native(options, &path)?.into());
                continue;
            }
            let bytes = read_bounded(&path, options.limits.component_bytes)?;
            let plugin = match known(&component::digest(&bytes)) {
                Some(plugin) => plugin,
                None => component::load(compiler, &options.limits, &origin(&path), &bytes)?.into(),
            };
            loaded.add(plugin);
        }
        loaded.finish(&options.grants)?;
        Ok(loaded)
    }

    fn plugin(&self, id: &PluginId) -> Option<&Plugin> {
        self.plugins.iter().find(|plugin| plugin.id == *id).map(|plugin| &**plugin)
    }

    fn add(&mut self, plugin: std::sync::Arc<Plugin>) {
        let index = self.plugins.len();
        let tools = plugin.manifest.tools.iter();
        self.tools.extend(tools.map(|tool| (tool.name.clone(), (index, tool.laws.clone()))));
        self.plugins.push(plugin);
    }

    /// Checks what concerns all plugins together.
    fn finish(&mut self, grants: &Grants) -> Result<(), ToolError> {
        let specs = self.plugins.iter().flat_map(|plugin| {
            plugin.manifest.tools.iter().map(|tool| ToolSpec {
                name: tool.name.clone(),
                kind: tool.kind,
                summary: tool.summary.clone(),
                params_schema: tool.params.clone(),
                plugin: plugin.id.clone(),
            })
        });
        self.catalogue = Catalogue::new(specs).map_err(|twins| ToolError::DuplicateTool {
            tool: twins.0.name.clone(),
            first: twins.0.plugin.to_string(),
            second: twins.1.plugin.to_string(),
        })?;
        let names = || self.plugins.iter().map(|plugin| plugin.id.name.as_str());
        if let Some(nobody) = grants.plugins().find(|granted| !names().any(|name| name == *granted)) {
            let (plugin, loaded) = (nobody.to_owned(), names().collect::<Vec<_>>().join(", "));
            return Err(ToolError::GrantToNobody { plugin, loaded });
        }
        for plugin in &self.plugins {
            if grants.plugins().any(|name| name == plugin.id.name) && !plugin.asks_for_model() {
                let plugin = plugin.label.clone();
                return Err(ToolError::NotGranted { plugin, missing: MissingKey::Manifest });
            }
        }
        Ok(())
    }

    /// The plugin of a planned call, if it is still the planned one and fits the work.
    fn find(&self, call: &PlannedCall, work: Work<'_>) -> Result<(&Plugin, &Laws), ToolError> {
        let unknown = || ToolError::UnknownTool { tool: call.tool.clone() };
        let (index, laws) = self.tools.get(&call.tool).ok_or_else(unknown)?;
        let plugin = &self.plugins[*index];
        if plugin.id != call.plugin {
            let (planned, loaded) = (Box::new(call.plugin.clone()), Box::new(plugin.id.clone()));
            return Err(ToolError::OtherPlugin { tool: call.tool.clone(), planned, loaded });
        }
        let kind = self.catalogue.get(&call.tool).ok_or_else(unknown)?.kind;
        if kind != work.kind() {
            let (found, asked) = (kind.to_string(), work.kind().to_string());
            return Err(ToolError::WrongKind { tool: call.tool.clone(), found, asked });
        }
        Ok((plugin, laws))
    }
}

/// Calls on behalf of one edit, and what they amounted to.
#[derive(Debug)]
pub struct Session<'a> {
    host: &'a ToolHost,
    narrowed: ToolLimits,
    runs: Vec<ToolRun>,
}

impl Session<'_> {
    /// As [`ToolHost::augment`]; a call that fails is not counted.
    ///
    /// # Errors
    /// As [`ToolHost::augment`].
    pub fn augment(&mut self, call: &PlannedCall, tasks: &[Task]) -> Result<Vec<Task>, ToolError> {
        let result = self.host.augment_within(call, tasks, self.narrowed)?;
        self.count(call, result.calls, result.made.len(), result.fuel);
        Ok(result.made)
    }

    /// As [`ToolHost::write`]; a call that fails is not counted.
    ///
    /// # Errors
    /// As [`ToolHost::write`].
    pub fn write(&mut self, call: &PlannedCall, source: &TextSource) -> Result<Vec<String>, ToolError> {
        let result = self.host.write_within(call, std::slice::from_ref(source), self.narrowed)?;
        let documents = result.made.into_iter().flatten().collect::<Vec<_>>();
        self.count(call, result.calls, documents.len(), result.fuel);
        Ok(documents)
    }

    fn count(&mut self, call: &PlannedCall, calls: u64, items: usize, fuel: u64) {
        let index = self.runs.iter().position(|run| run.tool == call.tool).unwrap_or_else(|| {
            let (tool, plugin) = (call.tool.clone(), call.plugin.clone());
            self.runs.push(ToolRun { tool, plugin, calls: 0, items: 0, fuel: 0 });
            self.runs.len() - 1
        });
        let run = &mut self.runs[index];
        run.calls += calls;
        run.items += items as u64;
        run.fuel += fuel;
    }

    /// One entry a tool, in order of first use.
    pub fn finish(self) -> Vec<ToolRun> {
        self.runs
    }
}

/// The seed of a call's n-th batch: the call's own for the first, so that a call of one batch is what it looks
/// like, and independent ones for the others.
fn batch_seed(seed: u64, index: usize) -> u64 {
    if index == 0 { seed } else { derive_seed(seed, &format!("batch/{index}")) }
}

/// What errors call a component until it has said who it is.
pub(crate) fn origin(path: &Path) -> String {
    format!("`{}`", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// Components and shared libraries.
fn plugin_files(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let unreadable = |source| ToolError::Read { path: folder.into(), source };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if has_extension(&path, "wasm") || has_extension(&path, std::env::consts::DLL_EXTENSION) {
            files.push(path);
        }
    }
    if files.len() > PLUGINS_MAX {
        return Err(ToolError::TooManyPlugins { path: folder.into(), found: files.len(), max: PLUGINS_MAX });
    }
    files.sort();
    Ok(files)
}

/// At most one byte more than `max`, which is enough to see that a file is too large.
pub(crate) fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, ToolError> {
    let unreadable = |source| ToolError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifests_are_the_components_own() {
        let built_in = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
        let components = BUILT_IN.map(|(name, bytes, _)| (name, bytes));
        let loaded = ToolHost::of_components(components, Limits::default()).expect("they load as any other");
        assert!(built_in.manifests().eq(loaded.manifests()));
        assert!(built_in.plugins().eq(loaded.plugins()));
    }
}
