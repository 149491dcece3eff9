//! Many calls at once, and a host on a starved single-threaded runtime.

use std::time::{Duration, Instant};

use selkie_tools::{Limit, Limits, ToolHost};

use crate::guest::{Guest, Kind, limit_of, planned, task};

#[test]
fn one_guests_deadline_is_not_anothers() {
    let slow = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))").component();
    let limits = |ms| Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(ms), ..Limits::default() };
    let host = ToolHost::of_components([("evil", slow.as_slice())], limits(400)).expect("it loads");
    let planned = planned(&host, "evil.tool");
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|index| {
                let (host, planned) = (&host, &planned);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(50 * index));
                    let start = Instant::now();
                    let error = host.augment(planned, &[task()]).expect_err("a deadline");
                    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 400), "{error}");
                    start.elapsed()
                })
            })
            .collect();
        for call in calls {
            let elapsed = call.join().expect("a thread");
            assert!(elapsed >= Duration::from_millis(390), "cut short after {elapsed:?}");
        }
    });
}

/// Runs for so many rounds before it answers, within its deadline.
fn busy(rounds: u64) -> Guest {
    Guest::calling(
        Kind::Puzzle,
        &format!(
            "(local.set $seed (i64.const {rounds}))
            (loop $more
                (local.set $seed (i64.sub (local.get $seed) (i64.const 1)))
                (br_if $more (i64.gt_s (local.get $seed) (i64.const 0))))"
        ),
    )
}

/// Two plugins on one engine: one runs into its deadline, twice at once, the other works on beside it.
#[test]
fn the_death_of_one_guest_does_not_shorten_the_life_of_another() {
    let limits = Limits { call_fuel: 1 << 60, deadline: Duration::from_secs(3), ..Limits::default() };
    let spinner = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))").component();
    let manifest = crate::guest::manifest("busy", r#""params":{"type":"object"}"#);
    // How long a round takes here: a call of the good guest takes a good part of its deadline, and not all.
    let rounds = 20_000_000;
    let start = Instant::now();
    let trial = busy(rounds);
    trial.call(&trial.host(limits.clone())).expect("an answer");
    let part = (rounds as f64 * 0.4 / start.elapsed().as_secs_f64()) as u64;
    let good = busy(part).saying(manifest).component();
    let components = [("evil", spinner.as_slice()), ("busy", good.as_slice())];
    let host = ToolHost::of_components(components, limits).expect("they load");
    let evil = planned(&host, "evil.tool");
    std::thread::scope(|scope| {
        let killed: Vec<_> =
            (0..2).map(|_| scope.spawn(|| host.augment(&evil, &[task()]).expect_err("a deadline"))).collect();
        let call = planned(&host, "busy.tool");
        while !killed.iter().all(|call| call.is_finished()) {
            host.augment(&call, &[task()]).expect("the good guest has its own time");
        }
        for error in killed {
            let error = error.join().expect("a thread");
            assert_eq!(limit_of(&error), (Limit::DeadlineMs, 3000), "{error}");
        }
    });
    // The engine is as good as new.
    host.augment(&planned(&host, "busy.tool"), &[task()]).expect("an answer");
}

/// The runtime's one worker is in the guest: nothing else of the runtime runs, its timers neither.
#[test]
fn deadlines_hold_on_a_starved_single_threaded_runtime() {
    let guest = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))");
    let limits = Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(100), ..Limits::default() };
    let host = guest.host(limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (error, timer) = runtime.block_on(async {
        let timer =
            tokio::spawn(tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()));
        let call = async { guest.call(&host) };
        // Were the deadline a task of the runtime, this would not return.
        (call.await.expect_err("a deadline"), timer.await)
    });
    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 100), "{error}");
    assert!(timer.expect("a task").is_err(), "the runtime goes on");
    crate::guest::assert_still_serving(&host);
}
