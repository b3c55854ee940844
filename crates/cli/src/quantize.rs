//! `qeil quantize`: a variant in another format, and how far its answers are from the original's.

use crate::arguments::QuantizeArguments;
use crate::models::file_of;
use crate::table::{self, figure};
use anyhow::Result;
use indicatif::ProgressBar;
use qeil_engine::handle::Launch;
use qeil_measure::quantize::{QuantizePlan, Quantized, Step, quantize as make};
use std::time::Duration;

/// How often the spinner turns.
const SPINNER_EVERY: Duration = Duration::from_millis(200);

pub async fn quantize(arguments: QuantizeArguments) -> Result<String> {
    let model = file_of(&arguments.model).await?;
    let mut plan = QuantizePlan::beside(model, arguments.format);
    if let Some(out) = arguments.out {
        plan.out = out;
    }
    plan.threads = arguments.threads.unwrap_or(plan.threads);
    let launch = Launch::this_program()?;
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(SPINNER_EVERY);
    let made = make(&launch, &plan, |step| {
        spinner.set_message(match step {
            Step::Writing => "writing the variant",
            Step::ScoringOriginal => "comparing: the original answers",
            Step::ScoringVariant => "comparing: the variant answers",
        });
    })
    .await;
    spinner.finish_and_clear();
    let made = made?;
    if arguments.json { table::json(&made) } else { Ok(text(&made)) }
}

fn text(made: &Quantized) -> String {
    let quality = &made.quality;
    let mut rows = table::table(&["figure", "value"], 0..0);
    let mut row = |name: &str, value: String| {
        rows.add_row([name, &value]);
    };
    row("file", made.path.display().to_string());
    row("name", made.name.clone());
    let (bytes, before) = (table::bytes(made.weight_bytes), table::bytes(made.original_weight_bytes));
    row("weights", format!("{bytes}, the original has {before}"));
    row("KL(original, variant), mean", format!("{} nats", figure(quality.kl_nats_mean)));
    row("KL(original, variant), worst", format!("{} nats", figure(quality.kl_nats_max)));
    row("same likeliest token", format!("{} % of positions", figure(100.0 * quality.top1_agreement)));
    let about = format!(
        "This is another model: its answers differ from the original's. Measured on the CPU over {} positions of built-in \
         texts (version {}); kept in {}.",
        quality.positions,
        quality.prompts_version,
        qeil_measure::quantize::Quality::path_beside(&made.path).display()
    );
    format!("{rows}\n {}\n", table::wrap(&about, usize::from(table::COLUMNS_MAX) - 1, " "))
}
