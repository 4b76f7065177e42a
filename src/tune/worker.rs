//! Measuring in a process of its own: code that nobody has run before may crash or hang.
//!
//! Invariant: a schedule that does costs its measurement and no more; the process is gone when its
//! owner is.

use super::measure::{Answer, Request, measure};
use rmp_serde::{from_slice, to_vec_named};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes of a message beyond which it is none.
const LARGEST: u32 = 1 << 28;
/// What compiling and the first runs of the schedules of a request may take, unless it is said.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The process cannot be started.
    #[error("cannot start the process that measures ({program}): {error}")]
    Start {
        /// What was started.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// The process ended before it answered.
    #[error("it crashed ({0})")]
    Crashed(ExitStatus),
    /// The process did not answer in time, and was ended.
    #[error("it did not end within {} s", .0.as_secs())]
    Hung(Duration),
    /// A request or an answer cannot be passed on.
    #[error("the process that measures cannot be talked to: {0}")]
    Message(String),
}

/// Starts processes that measure, and asks them.
#[derive(Debug)]
pub struct Worker {
    program: Program,
    process: Option<Process>,
    patience: Duration,
}

/// What is started: a program with arguments that calls [`serve`] on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub file: std::path::PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Result<Vec<Answer>, String>>,
}

impl Worker {
    /// A worker that starts this program when it is first asked.
    pub fn new(program: Program) -> Self {
        Worker { program, process: None, patience: PATIENCE }
    }

    /// The same, with as much time for compiling and the first runs of what is asked at once.
    pub fn patience(self, patience: Duration) -> Self {
        Worker { patience, ..self }
    }

    /// One answer for each schedule of a request. Where all of them together bring the process down,
    /// each is asked about by itself, beside the first. From `until` on, nothing is compiled or run for the
    /// first time any more.
    pub fn ask(&mut self, request: &Request, until: Instant) -> Result<Vec<Answer>, WorkerError> {
        match self.ask_once(request, until) {
            Err(WorkerError::Hung(_)) if Instant::now() >= until => {
                Ok(vec![Answer::Untried; request.schedules.len()])
            }
            Err(error @ (WorkerError::Crashed(_) | WorkerError::Hung(_))) => {
                let [first, others @ ..] = request.schedules.as_slice() else {
                    return Ok(Vec::new());
                };
                if others.is_empty() {
                    return Ok(vec![Answer::Failed { reason: error.to_string() }]);
                }
                self.ask_apart(request, first, others, until)
            }
            other => other,
        }
    }

    fn ask_apart(
        &mut self,
        request: &Request,
        first: &kiln_ir::schedule::Schedule,
        others: &[kiln_ir::schedule::Schedule],
        until: Instant,
    ) -> Result<Vec<Answer>, WorkerError> {
        let time = request.time / others.len().max(1) as u32;
        let mut of_first = None;
        let mut answers = Vec::new();
        for other in others {
            if Instant::now() >= until {
                answers.push(Answer::Untried);
                continue;
            }
            let schedules = vec![first.clone(), other.clone()];
            match self.ask_once(&Request { schedules, time, ..request.clone() }, until) {
                Ok(both) => {
                    let mut both = both.into_iter();
                    let now = both.next();
                    let timed = |answer: &Answer| matches!(answer, Answer::Timed { .. });
                    of_first = of_first.filter(timed).or(now);
                    answers.extend(both.next());
                }
                Err(WorkerError::Hung(_)) if Instant::now() >= until => {
                    answers.push(Answer::Untried);
                }
                Err(error @ (WorkerError::Crashed(_) | WorkerError::Hung(_))) => {
                    answers.push(Answer::Failed { reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        let unknown = || Answer::Failed { reason: "nothing that was tried beside it ended".into() };
        answers.insert(0, of_first.unwrap_or_else(unknown));
        Ok(answers)
    }

    fn ask_once(&mut self, request: &Request, until: Instant) -> Result<Vec<Answer>, WorkerError> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.program)?,
        };
        let left = until.saturating_duration_since(Instant::now());
        let patience = request.time + self.patience.min(left);
        if let Err(error) = send(&mut process.requests, request) {
            return Err(match process.child.try_wait() {
                Ok(Some(status)) => WorkerError::Crashed(status),
                _ => WorkerError::Message(error.to_string()),
            });
        }
        match process.answers.recv_timeout(patience) {
            Ok(Ok(answers)) if answers.len() == request.schedules.len() => {
                self.process = Some(process);
                Ok(answers)
            }
            Ok(Ok(_)) => Err(WorkerError::Message("answers are missing".to_owned())),
            Ok(Err(reason)) => Err(process.fate(reason)),
            Err(RecvTimeoutError::Disconnected) => Err(process.fate("it went away".to_owned())),
            Err(RecvTimeoutError::Timeout) => Err(WorkerError::Hung(patience)),
        }
    }
}

impl Process {
    fn start(program: &Program) -> Result<Self, WorkerError> {
        let fault =
            |error| WorkerError::Start { program: program.file.display().to_string(), error };
        let mut command = Command::new(&program.file);
        // What interrupts the owner is for the owner: measurements go on until it has no more questions.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What crashing code, or the compiler, has to say is no part of our output.
            .stderr(Stdio::null())
            .spawn()
            .map_err(fault)?;
        let missing = || fault(io::Error::other("it has no standard input or output"));
        let requests = child.stdin.take().ok_or_else(missing)?;
        let mut output = child.stdout.take().ok_or_else(missing)?;
        let (sender, answers) = channel();
        // Ends when the process closes its output, or nobody listens any more.
        std::thread::spawn(move || {
            while let Some(answer) = receive(&mut output).map_err(|e| e.to_string()).transpose() {
                let over = answer.is_err();
                if sender.send(answer).is_err() || over {
                    return;
                }
            }
        });
        Ok(Process { child, requests, answers })
    }

    /// Why a process that closed its output, or wrote nonsense, did so: it crashed, if it is about to end.
    fn fate(&mut self, reason: String) -> WorkerError {
        for _ in 0..20 {
            match self.child.try_wait() {
                Ok(Some(status)) => return WorkerError::Crashed(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        WorkerError::Message(reason)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is not there to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures what is asked for, until the questions end: what the program of a [`Worker`] does.
///
/// `gone` is called as soon as they do, from another thread: what is measured may never end.
pub fn serve(
    mut requests: impl Read + Send + 'static,
    mut answers: impl Write,
    gone: impl FnOnce() + Send + 'static,
) -> Result<(), WorkerError> {
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        while let Some(request) = receive::<Request>(&mut requests).transpose() {
            let over = request.is_err();
            if sender.send(request).is_err() || over {
                return;
            }
        }
        gone();
    });
    let fault = |error: io::Error| WorkerError::Message(error.to_string());
    while let Ok(request) = asked.recv() {
        send(&mut answers, &measure(&request.map_err(fault)?)).map_err(fault)?;
    }
    Ok(())
}

/// A message: its length, then its bytes.
fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = to_vec_named(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// The next message; `None` where they end.
fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > LARGEST {
        return Err(io::Error::other("the message is too long"));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    from_slice(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Target};
    use kiln_ir::schedule::Schedule;

    /// Takes no answer before the owner is gone.
    struct Answers(Receiver<()>);

    impl Write for Answers {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.recv_timeout(Duration::from_secs(60)) {
                Err(RecvTimeoutError::Timeout) => Err(io::Error::other("it was not noticed")),
                _ => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn that_nobody_asks_any_more_is_noticed_while_measuring() {
        let graph = "Contract(spec: \"mk,kn->mn\")";
        let graph = kiln_ir::single::graph(graph, &["f32[8, 8]", "f32[8, 8]"], 1).unwrap();
        let kernel = kiln_passes::form(&graph, graph.nodes().last().unwrap().0).unwrap().kernel;
        let request = Request {
            setting: super::super::Setting::new(Backend::Cranelift, &Target::host().unwrap(), 1),
            kernel,
            params: Vec::new(),
            schedules: vec![Schedule { task: vec![0, 0], ..Schedule::default() }; 2],
            time: Duration::from_millis(500),
        };
        let mut questions = Vec::new();
        send(&mut questions, &request).unwrap();
        let (gone, noticed) = channel();
        let noticed = Answers(noticed);
        serve(io::Cursor::new(questions), noticed, move || drop(gone)).unwrap();
    }
}
