//! WASI for guests whose toolchain cannot do without: it links, and reaches nothing.
//!
//! There are no files, no network, no arguments and no variables; the clocks stand still; randomness is the
//! call's seed; what is printed goes to the plugin's log. Everything else is there by name and ends the call with
//! that name. So a component that imports WASI gains nothing by it, and its results stay functions of its input.

use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Linker, Resource, ResourceAny, ResourceType, Val};

use crate::state::State;

/// Bytes that a stream takes at a time.
const STREAM_BYTES: u64 = 4096;

/// What all of WASI's handles are to the host.
struct Handle;

/// A function of an import: what the guest gave, and where its results go.
type Stub = fn(&mut StoreContextMut<'_, State>, &[Val], &mut [Val]) -> wasmtime::Result<()>;

/// Defines everything that an interface of WASI has.
pub(crate) fn define(
    engine: &wasmtime::Engine,
    name: &str,
    interface: &ComponentInstance,
    linker: &mut Linker<State>,
) -> wasmtime::Result<()> {
    let short = name.split_once('@').map_or(name, |(short, _)| short);
    let mut instance = linker.instance(name)?;
    for (item, export) in interface.exports(engine) {
        match export.ty {
            ComponentItem::ComponentFunc(_) => {
                let what = format!("{short}#{item}");
                let stub = stub(&what);
                instance.func_new(item, move |mut store, _, given, results| match stub {
                    Some(stub) => {
                        // A handle that was lent must be given back before the guest goes on.
                        for lent in given {
                            if let Val::Resource(lent) = lent {
                                lent.resource_drop(&mut store)?;
                            }
                        }
                        stub(&mut store, given, results)
                    }
                    None => {
                        Err(wasmtime::Error::msg(format!("`{what}` is not there: plugins reach nothing")))
                    }
                })?;
            }
            ComponentItem::Resource(_) => {
                instance.resource(item, ResourceType::host::<Handle>(), |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The functions that answer.
fn stub(name: &str) -> Option<Stub> {
    let (interface, function) = name.split_once('#')?;
    Some(match (interface, function) {
        (
            "wasi:cli/environment" | "wasi:filesystem/preopens",
            "get-environment" | "get-arguments" | "get-directories",
        ) => |_, _, results| give(results, Val::List(Vec::new())),
        ("wasi:cli/environment", "initial-cwd")
        | (
            "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr",
            "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr",
        ) => |_, _, results| give(results, Val::Option(None)),
        (
            "wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr",
            "get-stdin" | "get-stdout" | "get-stderr",
        ) => handle,
        ("wasi:cli/exit", _) => |_, _, _| Err(wasmtime::Error::msg("the plugin ended itself (`exit`)")),
        ("wasi:clocks/monotonic-clock", "now") => |_, _, results| give(results, Val::U64(0)),
        ("wasi:clocks/monotonic-clock", "resolution") => |_, _, results| give(results, Val::U64(1)),
        ("wasi:clocks/wall-clock", "now" | "resolution") => |_, _, results| {
            let time = [("seconds", Val::U64(0)), ("nanoseconds", Val::U32(1))];
            give(results, Val::Record(time.map(|(field, value)| (field.to_owned(), value)).into()))
        },
        ("wasi:random/random" | "wasi:random/insecure", "get-random-u64" | "get-insecure-random-u64") => {
            |store, _, results| give(results, Val::U64(store.data_mut().random.next_u64()))
        }
        ("wasi:random/random" | "wasi:random/insecure", _) => random_bytes,
        ("wasi:random/insecure-seed", _) => |store, _, results| {
            let mut draw = || Val::U64(store.data_mut().random.next_u64());
            let pair = vec![draw(), draw()];
            give(results, Val::Tuple(pair))
        },
        ("wasi:io/streams", "[method]output-stream.check-write") => {
            |_, _, results| give(results, Val::Result(Ok(Some(Box::new(Val::U64(STREAM_BYTES))))))
        }
        (
            "wasi:io/streams",
            "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush",
        ) => print,
        ("wasi:io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => {
            |_, _, results| give(results, Val::Result(Ok(None)))
        }
        (
            "wasi:io/streams",
            "[method]input-stream.read"
            | "[method]input-stream.blocking-read"
            | "[method]input-stream.skip"
            | "[method]input-stream.blocking-skip",
        ) => |_, _, results| {
            let closed = Val::Variant("closed".to_owned(), None);
            give(results, Val::Result(Err(Some(Box::new(closed)))))
        },
        _ => return None,
    })
}

fn give(results: &mut [Val], value: Val) -> wasmtime::Result<()> {
    match results {
        [result] => *result = value,
        _ => return Err(wasmtime::Error::msg("an interface of WASI that this host does not know")),
    }
    Ok(())
}

fn handle(store: &mut StoreContextMut<'_, State>, _: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
    let handle = ResourceAny::try_from_resource(Resource::<Handle>::new_own(0), store)?;
    give(results, Val::Resource(handle))
}

fn random_bytes(
    store: &mut StoreContextMut<'_, State>,
    given: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let [Val::U64(count)] = given else { return give(&mut [], Val::Bool(false)) };
    if *count > STREAM_BYTES {
        return Err(wasmtime::Error::msg(format!(
            "{count} random bytes asked for, at most {STREAM_BYTES} are given"
        )));
    }
    let random = &mut store.data_mut().random;
    let bytes = (0..*count).map(|_| Val::U8(random.next_u64() as u8)).collect();
    give(results, Val::List(bytes))
}

/// Whichever stream it is: it goes to the log.
fn print(store: &mut StoreContextMut<'_, State>, given: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
    let [_, Val::List(bytes)] = given else { return give(&mut [], Val::Bool(false)) };
    let bytes: Vec<u8> =
        bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    store.data_mut().log.add(&String::from_utf8_lossy(&bytes))?;
    give(results, Val::Result(Ok(None)))
}
