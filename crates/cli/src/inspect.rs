//! `qeil inspect`.

use crate::arguments::InspectArguments;
use crate::table::{self, MISSING};
use anyhow::Result;
use qeil_measure::report::InspectReport;
use qeil_model::catalogue::Catalogue;
use qeil_model::shelf::Shelf;

pub fn inspect(arguments: &InspectArguments) -> Result<String> {
    let path = Shelf::of_user()?.resolve(&arguments.model, &Catalogue::load()?)?;
    let report = InspectReport::new(&path, qeil_model::inspect(&path)?, arguments.context);
    if arguments.json {
        return table::json(&report);
    }
    let facts = &report.facts;
    let mut rows = table::table(&["fact", "value"], 0..0);
    let mut row = |name: &str, value: String| {
        rows.add_row([name, &value]);
    };
    row("file", report.path.display().to_string());
    row("name", facts.name.clone().unwrap_or_else(|| MISSING.into()));
    if facts.weightless {
        row("weights", "random (weightless): figures hold for the shape, answers mean nothing".into());
    }
    if let Some(original) = &facts.quantised_from {
        row("quantised from", format!("sha256 {original}: a model of its own"));
    }
    row("architecture", facts.architecture.clone());
    row(
        "parameters",
        format!(
            "{} ({} without embeddings)",
            table::parameters(facts.parameters),
            table::parameters(facts.parameters_non_embedding)
        ),
    );
    row("quantisation", facts.quantisation.clone());
    row("layers", facts.layers.to_string());
    row("width", facts.embedding.to_string());
    row(
        "heads",
        format!("{} for queries, {} for keys and values", span(&facts.heads), span(&facts.kv_heads)),
    );
    if facts.experts > 0 {
        row("experts", format!("{}, of which {} a token", facts.experts, facts.experts_used));
    }
    row("vocabulary", format!("{} tokens ({})", facts.vocab_tokens, facts.tokenizer.model));
    row("trained context", format!("{} tokens", facts.context_train_tokens));
    row("chat template", if facts.chat_template.is_some() { "yes" } else { "no" }.into());
    row("read each decode step", format!("{} of weights", table::bytes(facts.step_bytes)));
    row("memory, weights", table::bytes(facts.weight_bytes));
    let kv =
        format!("{} for {} tokens of context, 16-bit", table::bytes(report.kv_bytes), report.context_tokens);
    row("memory, keys and values", kv);
    if facts.recurrent {
        let state = match report.recurrent_state_bytes {
            Some(size) => format!("{} for {} sequences", table::bytes(size), report.sequences),
            None => "unknown for this architecture".into(),
        };
        row("memory, recurrent state", state);
    }
    let sum = report.memory_bytes.map_or_else(
        || MISSING.into(),
        |sum| format!("{} and scratch space: estimated from the file's tensor table", table::bytes(sum)),
    );
    row("memory, together", sum);
    Ok(format!("{rows}\n"))
}

/// One number for all layers, or the least and the most.
fn span(by_layer: &[u32]) -> String {
    match (by_layer.iter().min(), by_layer.iter().max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => MISSING.into(),
    }
}
