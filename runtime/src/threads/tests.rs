use super::*;
use std::sync::atomic::AtomicI64;

#[test]
fn shares_cover_all_tasks_once() {
    for (threads, tasks) in [(1, 5), (3, 10), (4, 3), (7, 0), (2, i64::MAX)] {
        let mut next = 0;
        for thread in 0..threads {
            let share = Share::of(thread, threads, tasks);
            assert_eq!(share.tasks.start, next);
            assert!((share.tasks.end - next - tasks / threads as i64) / 2 == 0);
            next = share.tasks.end;
        }
        assert_eq!(next, tasks);
    }
}

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
        let result = pool.run(3, 1, &|share| assert_ne!(share.thread, culprit, "expected panic"));
        assert_eq!(result, Err(ThreadError::Panicked), "thread {culprit}");
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

#[test]
fn pools_are_shared_and_bounded() {
    let (a, b) = (ThreadPool::shared(2).unwrap(), ThreadPool::shared(2).unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(ThreadPool::shared(0).unwrap().threads(), default_threads());
    assert_eq!(ThreadPool::new(MAX_THREADS + 1).unwrap_err(), ThreadError::Count(MAX_THREADS + 1));
}
