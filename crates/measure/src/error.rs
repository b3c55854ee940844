//! Why there is no figure.

use qeil_engine::handle::EngineError;
use qeil_engine::request::RequestError;
use qeil_engine::spec::OutOfBounds;
use qeil_model::InspectError;
use qeil_model::template::TemplateError;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The engine did not do what it was asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model file is refused.
    #[error(transparent)]
    Model(#[from] InspectError),
    /// The request is wrong.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A number is out of bounds.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    /// A copy of the model in another weight format could not be made.
    #[error("copying the model in another weight format: {path}: {source}", path = path.display())]
    Weights {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A quantised variant or the record of its quality could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A variant's answers cannot be compared with the original's.
    #[error("the quantised model cannot be compared with the original: {0}")]
    NotComparable(String),
    /// A record of quality is wrong, or of another file.
    #[error("{}: {why}; `qeil quantize` writes it anew", path.display())]
    Quality {
        /// The record.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The chat template of the model could not be rendered.
    #[error("chat template of the model: {0}")]
    Template(#[from] TemplateError),
    /// Prompt and output do not fit the context that the model was trained for.
    #[error(
        "a prompt of {prompt_tokens} tokens and {output_tokens} more exceed the {context_train_tokens} tokens of \
         context that this model was trained for: {}", fits(*prompt_tokens, *context_train_tokens)
    )]
    BeyondContext {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens asked for.
        output_tokens: u32,
        /// What the model was trained for.
        context_train_tokens: u32,
    },
    /// A device was asked for that there is not.
    #[error("no device is called {name:?}; this machine and build have: {}", have.join(", "))]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        have: Vec<String>,
    },
    /// The engine failed on one sample.
    #[error("sample {sample} failed: {why}")]
    SampleFailed {
        /// Its index.
        sample: u32,
        /// What the engine said.
        why: String,
    },
    /// A run was too short for its figure.
    #[error("{test} ({settings}) ended without a figure: the model emitted too few tokens or no time passed")]
    NoFigure {
        /// Name of the test.
        test: String,
        /// Settings it ran under.
        settings: String,
    },
    /// The store of measurements.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A cell with depth computed another number of prompt tokens than it should.
    #[error(
        "{computed} prompt tokens were computed instead of {asked}: this model's memory cannot be continued from a \
         prefix that was computed before, so leave the depth axis at 0"
    )]
    DepthNotKept {
        /// Tokens that were to be computed.
        asked: u32,
        /// Tokens that were.
        computed: u32,
    },
    /// A plan without tests.
    #[error("nothing to measure: give at least one prompt length, output length or number of samples")]
    NothingToMeasure,
    /// A task of a set cannot be asked.
    #[error("task {task}: {source}")]
    Task {
        /// Its id.
        task: String,
        /// Why.
        source: Box<MeasureError>,
    },
    /// A task set without tasks.
    #[error("the task set {0} has no tasks: there is nothing to sample")]
    NoTasks(String),
    /// A device's numbers are not the CPU's.
    #[error("{device} is refused, its numbers are not the CPU's: {why}")]
    Distrusted {
        /// Device.
        device: String,
        /// The verdict of the known-answer check.
        why: String,
    },
    /// A verifier ended its thread.
    #[error("judging sample {sample} of task {task} ended its thread, which no output should be able to do")]
    Verifier {
        /// Id of the task.
        task: String,
        /// Number of the sample.
        sample: u32,
    },
    /// No candidate of a tuning run could be tried.
    #[error("none of the settings could be tried; the first failed: {0}")]
    NoCandidate(String),
}

fn fits(prompt_tokens: u32, context_train_tokens: u32) -> String {
    match context_train_tokens.checked_sub(prompt_tokens) {
        None | Some(0) => "shorten the prompt".into(),
        Some(left) => format!("ask for at most {left} tokens, or shorten the prompt"),
    }
}
