//! Code judged by unit tests, in the sandbox.
//!
//! The program is the signature the model was given, what it wrote, the tests, and a last line that prints a token.
//! Only that token on the last line of the output means that the tests were reached and passed: a program that ends
//! early with code 0 has not passed.

use super::{Invalid, Judge, Verdict, quoted};
use crate::{
    extract,
    sandbox::{End, Program},
    set::hex,
    task::length,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest prompt or test, in bytes: the longest of HumanEval's is a tenth.
pub const CODE_BYTES_MAX: usize = 64 << 10;
/// Name of the program in the sandbox's folder.
const FILE: &str = "program.py";

/// Unit tests for a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The code before the answer: imports, the signature, its docstring. An answer may go on from it or repeat it.
    pub prompt: String,
    /// Code that defines `check(candidate)`, which raises where the candidate is wrong.
    pub test: String,
    /// Name of the function.
    pub entry_point: String,
}

impl Python {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        length("verifier.prompt", &self.prompt, 0, CODE_BYTES_MAX)?;
        length("verifier.test", &self.test, 1, CODE_BYTES_MAX)?;
        let name = &self.entry_point;
        let good =
            |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
        if name.is_empty() || name.len() > 100 || !name.chars().enumerate().all(good) {
            let remedy = "write the name of a Python function";
            return Err(Invalid::new("verifier.entry_point", format!("{name:?}"), remedy));
        }
        Ok(())
    }

    /// The program that runs the tests on what is in an output, and the token that it prints when they passed.
    ///
    /// # Errors
    /// There is no code in the output.
    pub fn program(&self, output: &str) -> Result<(String, String), extract::Nothing> {
        let code = extract::python(output, &self.prompt, &self.entry_point)?.value;
        Ok(self.assemble(&code))
    }

    fn assemble(&self, code: &str) -> (String, String) {
        let token = hex(&Sha256::digest(format!("{code}\0{}", self.test).as_bytes()));
        let Self { test, entry_point, .. } = self;
        (format!("{code}\n\n{test}\n\ncheck({entry_point})\nprint(\"\\n{token}\")\n"), token)
    }

    pub(super) fn verify(&self, output: &str, judge: &Judge<'_>) -> Verdict {
        let code = match extract::python(output, &self.prompt, &self.entry_point) {
            Ok(found) => found.value,
            Err(nothing) => return nothing.into(),
        };
        let (program, token) = self.assemble(&code);
        let failed = |why: String| Verdict { passed: false, answer: Some(code.clone()), why };
        let Some(sandbox) = judge.sandbox else {
            return failed("no sandbox to run the code in".into());
        };
        let program = Program {
            // -I: nothing from the environment or the folder; -S: no installed packages, only the standard library.
            argv: ["python3", "-I", "-S", FILE].map(String::from).to_vec(),
            files: vec![(FILE.into(), program.into_bytes())],
            stdin: Vec::new(),
        };
        let outcome = match sandbox.run(&program) {
            Ok(outcome) => outcome,
            Err(e) => return failed(format!("the code was not run: {e}")),
        };
        let printed = String::from_utf8_lossy(&outcome.stdout);
        if outcome.end == End::Exited(0) {
            if printed.trim_end().ends_with(&token) {
                return Verdict { passed: true, answer: Some(code), why: "the tests pass".into() };
            }
            return failed(if outcome.truncated {
                "it printed so much that the end was not seen".into()
            } else {
                "it ended before the tests did".into()
            });
        }
        let said = String::from_utf8_lossy(&outcome.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        failed(format!("the tests fail ({:?}): {}", outcome.end, quoted(last.trim())))
    }
}
