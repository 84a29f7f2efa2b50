//! What the programs in Rust share: how `mod.ts` asks for checks (see `program.ts`).
use std::any::Any;
use std::fmt::Debug;
use std::io::BufRead;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use redis::RedisResult;
use tokio::sync::mpsc;

pub const KEY: &str = "5fd81ca5-59bf-4a9e-9149-fce4ee65c033";
pub const PIPELINE: i64 = 1000;
const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Why a check is not passed. One that fails may also panic.
pub enum Trouble {
    Skipped(&'static str),
    Failed(String),
}

/// A note, or why not.
pub type Outcome = Result<String, Trouble>;

impl<E: Debug> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Failed(format!("{error:?}"))
    }
}

/// Answers until nobody asks any more.
pub async fn answer(mut check: impl AsyncFnMut(&str) -> Outcome) {
    let (sender, mut asked) = mpsc::unbounded_channel();
    // Not on the thread of the client, which also reads while nobody asks.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            sender.send(line.expect("a line")).expect("somebody answers");
        }
    });
    while let Some(name) = asked.recv().await {
        let outcome = AssertUnwindSafe(check(&name)).catch_unwind().await;
        let (verdict, text) = match outcome {
            Ok(Ok(note)) => ("ok", note),
            Ok(Err(Trouble::Skipped(reason))) => ("skipped", reason.to_string()),
            Ok(Err(Trouble::Failed(reason))) => ("failed", reason),
            Err(panic) => ("failed", message(panic)),
        };
        println!("{name}\t{verdict}\t{}", text.replace('\n', "\u{2028}"));
    }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
    }
}

/// The first answer after the link was lost, and a note of how many commands failed before it.
pub async fn first_answer<T>(mut command: impl AsyncFnMut() -> RedisResult<T>) -> RedisResult<(T, String)> {
    let began = Instant::now();
    let mut failures = 0;
    loop {
        match command().await {
            Ok(answer) if failures == 0 => return Ok((answer, String::new())),
            Ok(answer) => return Ok((answer, format!("after {failures} commands that failed"))),
            Err(error) if began.elapsed() > RECONNECT_MAX => return Err(error),
            Err(_) => failures += 1,
        }
    }
}
