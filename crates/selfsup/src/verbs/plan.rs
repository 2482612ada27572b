//! `selfsup plan`.

use super::pretrain::{Request, checked, kind, read_draft};
use crate::config::PretrainConfig;
use crate::draft::Draft;
use crate::modality::Modality;
use crate::plan::plan;
use crate::registry::with_modality;
use crate::say::{say, say_text};
use selfsup_core::Result;
use selfsup_core::config::to_toml;

/// Says what `pretrain` would choose for the same arguments, and prints the configuration that it would run;
/// leaves nothing behind.
///
/// # Errors
/// With the exit code of [`selfsup_core::Error::exit_code`].
pub fn run(request: &Request) -> Result<()> {
    let draft = read_draft(request)?;
    with_modality!(kind(&draft)?, M => run_as::<M>(&draft, request.budget.as_deref()))
}

fn run_as<M: Modality>(draft: &Draft, budget: Option<&str>) -> Result<()> {
    checked::<M>(draft)?;
    let planned = plan::<M>(draft, budget, false)?;
    let config = PretrainConfig::<M::Keys>::of(&planned.draft)?;
    planned.lines.iter().for_each(|line| say!("# {line}"));
    say_text!("{}", to_toml(&config)?);
    Ok(())
}
