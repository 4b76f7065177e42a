use super::*;
use std::sync::atomic::AtomicI64;

#[test]
fn every_task_is_done_once_in_every_step() {
    for threads in [1, 2, 3, 8] {
        let pool = ThreadPool::new(threads).unwrap();
        let done: Vec<AtomicI64> = (0..100).map(|_| AtomicI64::new(0)).collect();
        for step in 1..=2000 {
            let tasks = step % 101;
            pool.run(tasks, 1, &|share| {
                for task in share.tasks {
                    done[task as usize].fetch_add(1, Ordering::Relaxed);
                }
            })
            .unwrap();
            // Everything is visible and finished when `run` returns.
            let sum: i64 = done.iter().map(|count| count.swap(0, Ordering::Relaxed)).sum();
            assert_eq!(sum, tasks, "{threads} threads, step {step}");
        }
    }
}

#[test]
fn workers_that_slept_wake_up() {
    let pool = ThreadPool::new(2).unwrap();
    for _ in 0..20 {
        std::thread::sleep(SPIN * 10);
        let count = AtomicI64::new(0);
        pool.run(2, 1, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(count.into_inner(), 2);
    }
}

#[test]
fn little_work_stays_on_few_threads() {
    let pool = ThreadPool::new(4).unwrap();
    let cases = [(1, 1, 1), (100, 1, 4), (100, 50, 2), (100, 1000, 1), (0, 1, 1), (9, 0, 4)];
    for (tasks, grain, expected) in cases {
        assert_eq!(pool.threads_for(tasks, grain), expected, "{tasks} tasks of grain {grain}");
    }
    let caller = std::thread::current().id();
    pool.run(100, 1000, &|share| {
        assert_eq!((share.thread, share.tasks), (0, 0..100));
        assert_eq!(std::thread::current().id(), caller);
    })
    .unwrap();
}

#[test]
fn a_panic_is_an_error_and_the_pool_lives_on() {
    let pool = ThreadPool::new(3).unwrap();
    for culprit in 0..3 {
        let result = pool.run(3, 1, &|share| assert!(!share.tasks.contains(&culprit), "expected"));
        assert_eq!(result, Err(ThreadError::Panicked), "task {culprit}");
        assert_eq!(pool.run(3, 1, &|_| ()), Ok(()));
    }
}

#[test]
fn callers_do_not_wait_for_each_other() {
    let pool = ThreadPool::new(2).unwrap();
    let total = AtomicI64::new(0);
    let add = |share: Share| {
        total.fetch_add(share.tasks.end - share.tasks.start, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| pool.run(10, 1, &add).unwrap()));
        }
    });
    // Work may itself call the pool.
    pool.run(2, 1, &|_| pool.run(10, 1, &add).unwrap()).unwrap();
    assert_eq!(total.into_inner(), 4 * 500 * 10 + 2 * 10);
}

/// What a thread that is held up has not begun, the others do.
#[test]
fn a_thread_that_is_held_up_is_helped_out() {
    let pool = ThreadPool::new(2).unwrap();
    for _ in 0..20 {
        let (done, begun) = (AtomicI64::new(0), AtomicBool::new(false));
        let (tasks, begin) = (100, Instant::now());
        pool.run(tasks, 1, &|share| {
            let first = share.tasks.start == 0;
            // The first piece takes as long as all the others together.
            while first && done.load(Ordering::Acquire) + share.tasks.end < tasks {
                assert!(begin.elapsed() < Duration::from_secs(60), "nobody does the others");
                std::thread::yield_now();
            }
            begun.fetch_or(first, Ordering::Relaxed);
            if !first {
                done.fetch_add(share.tasks.end - share.tasks.start, Ordering::AcqRel);
            }
        })
        .unwrap();
        assert!(begun.into_inner());
    }
}

#[test]
fn pools_are_shared_and_bounded() {
    let (a, b) = (ThreadPool::shared(2).unwrap(), ThreadPool::shared(2).unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(ThreadPool::shared(0).unwrap().threads(), default_threads());
    assert_eq!(ThreadPool::new(MAX_THREADS + 1).unwrap_err(), ThreadError::Count(MAX_THREADS + 1));
}
