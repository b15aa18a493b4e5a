//! The same two jobs as in `lock-held`, on the pool of this lesson.
//!
//! Run: cargo run -p lesson-04-thread-pool --example lock-released
//! Look for: both jobs start at once. Each line that you type ends a job.

#[path = "../src/pool.rs"]
mod pool;

use std::io;

use pool::ThreadPool;

fn main() -> io::Result<()> {
    let pool = ThreadPool::new(2, 2)?;
    for _ in 1..=2 {
        pool.submit(job);
    }
    Ok(())
}

fn job() {
    println!("a job started");
    // At the end of the input it ends, too.
    let _ = io::stdin().read_line(&mut String::new());
    println!("a job ended");
}
