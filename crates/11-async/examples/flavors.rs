//! Two tasks that block their thread, on one thread and on two.
//!
//! Run: cargo run -p lesson-11-async --example flavors -- current-thread
//! Look for: only one task has begun. Each line that you type ends a task.
//!   With `multi-thread` instead, or with `spawn-blocking`, both begin.

use std::{env, io};

use anyhow::bail;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

fn main() -> anyhow::Result<()> {
    let choice = env::args().nth(1).unwrap_or_default();
    let elsewhere = choice == "spawn-blocking";
    let mut builder = match choice.as_str() {
        "current-thread" | "spawn-blocking" => Builder::new_current_thread(),
        "multi-thread" => Builder::new_multi_thread(),
        _ => bail!("which: current-thread, multi-thread or spawn-blocking?"),
    };
    let runtime = builder.worker_threads(2).build()?;
    runtime.block_on(async {
        for task in [(); 2].map(|()| tokio::spawn(task(elsewhere))) {
            task.await?;
        }
        Ok(())
    })
}

// ANCHOR: task
async fn task(elsewhere: bool) {
    println!("a task began");
    if elsewhere {
        // On a thread of the runtime that is there to be blocked.
        let _ = spawn_blocking(wait_for_a_line).await;
    } else {
        wait_for_a_line();
    }
    println!("a task ended");
}

fn wait_for_a_line() {
    // At the end of the input it ends, too.
    let _ = io::stdin().read_line(&mut String::new());
}
// ANCHOR_END: task
