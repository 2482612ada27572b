//! The `selfsup` command.

mod args;

#[cfg(feature = "medical")]
use args::Cache;
use args::{Cli, Common, Data, RunsVerb, Tokenizer, Verb};
use clap::{CommandFactory, Parser};
use selfsup::verbs;
use selfsup::{Error, Result};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut settings: Vec<(&str, String)> = Vec::new();
    settings
        .extend(selfsup_core::device::candle_pool_setting().map(|(name, value)| (name, value.to_string())));
    settings.extend(cli.common.threads.map(|n| ("RAYON_NUM_THREADS", n.to_string())));
    for (name, value) in settings {
        // SAFETY: the process has one thread so far, so none could read the environment at the same time.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    let Common { quiet, verbose, json, .. } = cli.common;
    selfsup::say::set_mode(selfsup::say::Mode { quiet, verbose, json });
    match run(cli) {
        Ok(()) => ExitCode::from(u8::from(selfsup::say::failed())),
        Err(e) => {
            let kind = if matches!(e, Error::Interrupted { .. }) { "stopped:" } else { "error:" };
            // Where the standard error is closed, the exit code alone tells.
            let _ = writeln!(std::io::stderr(), "{kind} {e}");
            selfsup::say::result(&serde_json::json!({ "error": e.to_string(), "code": e.exit_code() }));
            ExitCode::from(e.exit_code())
        }
    }
}

/// Carries out the verb.
fn run(cli: Cli) -> Result<()> {
    let common = cli.common;
    let own = common.overrides(&cli.verb)?;
    match cli.verb {
        Verb::Pretrain(a) => verbs::pretrain::run(verbs::pretrain::Request {
            out: a.folder.out,
            resume: a.folder.resume,
            allow_config_change: a.folder.allow_config_change,
            dry_run: a.dry_run,
            probe: !a.no_probe,
            ..a.what.of(a.budget, own)
        }),
        Verb::Plan(a) => verbs::plan::run(&a.what.of(a.budget, own)),
        Verb::Probe(a) => verbs::probe::run(&verbs::probe::Request {
            run: a.run,
            overrides: [a.overrides, own].concat(),
            data: a.on.data,
            test: a.on.test,
            labels: a.on.labels,
            frames: a.frames.map(Option::unwrap_or_default),
            out: a.out,
            snr: a.noise.snr,
            noise: a.noise.noise,
            measures: a.measures,
            episodes: a.episodes,
            invariance: a.invariance,
            groups: a.groups,
            against: a.against,
            ood: a.ood,
        }),
        Verb::Robustness(a) => verbs::robustness::run(&verbs::robustness::Request {
            run: a.run,
            overrides: [a.overrides, own].concat(),
            data: a.on.data,
            test: a.on.test,
            labels: a.on.labels,
            corruptions: a.corruptions,
            severities: a.severities,
            samples: a.samples,
            preview: a.preview,
            fresh: a.fresh,
            out: a.out,
        }),
        Verb::Curve(a) => verbs::curve::run(&a.of(own)),
        Verb::Finetune(a) => verbs::finetune::run(&verbs::finetune::Request {
            args: [a.args, own].concat(),
            run: a.run,
            labels: a.labels,
            data: a.data,
            test: a.test,
            out: a.folder.out,
            resume: a.folder.resume,
            allow_config_change: a.folder.allow_config_change,
        }),
        Verb::Predict(a) => verbs::predict::run(&a.of(None, own)),
        Verb::Transcribe(a) => verbs::predict::run(&a.of(Some("ctc"), own)),
        Verb::Segment(a) => {
            let task = Some("segmentation".into());
            verbs::predict::run(&verbs::predict::Request {
                run: a.run,
                files: a.files,
                out: Some(a.out),
                task,
                folder: true,
                skip_bad: a.bad.skip_bad,
                overrides: own,
                ..Default::default()
            })
        }
        Verb::Generate(a) => verbs::generate::run(&verbs::generate::Request {
            run: a.run,
            prompt: a.prompt,
            samples: a.samples,
            tokens: a.tokens,
            temperature: a.temperature,
            top_k: a.top_k,
            top_p: a.top_p,
            cache: !a.no_cache,
            seed: common.seed.unwrap_or(0),
            overrides: own,
        }),
        Verb::FillMask(a) => verbs::generate::fill(&verbs::generate::FillRequest {
            run: a.run,
            text: a.text,
            top: a.top,
            overrides: own,
        }),
        Verb::Tokenizer(Tokenizer::Train { data, out, keys }) => {
            verbs::tokenizer::run(&verbs::tokenizer::Request { data, out, keys })
        }
        Verb::Curves { runs, out } => verbs::curves::run(&runs, out.as_deref()),
        Verb::Pictures(a) => verbs::pictures::run(&verbs::pictures::Request {
            run: a.run,
            data: a.data,
            count: a.count,
            overrides: [a.overrides, own].concat(),
        }),
        Verb::Report(a) => verbs::report::run(&verbs::report::Request {
            args: [a.runs, own].concat(),
            out: a.out,
            text: a.text,
            samples: a.samples,
            points: a.points,
            data: a.data,
        }),
        Verb::Runs(a) => match a.what {
            None => verbs::runs::list(&a.dir, verbs::runs::Order::named(&a.sort)?),
            Some(RunsVerb::Compare { runs }) => verbs::runs::compare(&runs),
            Some(RunsVerb::Clean { dir, failed, yes }) => verbs::runs::clean(&dir, failed, yes),
        },
        Verb::Config { section } => verbs::config::run(section.as_deref()),
        Verb::Embed(a) => verbs::embed::run(&verbs::embed::Request {
            run: a.run,
            out: a.out,
            data: a.data,
            skip_bad: a.bad.skip_bad,
            overrides: [own, a.overrides].concat(),
        }),
        #[cfg(feature = "signals")]
        Verb::Monitor(a) => verbs::monitor::run(&a.of(own)),
        Verb::Search(a) => verbs::search::run(&a.of(own)),
        Verb::Data(Data::List) => verbs::data::list(),
        Verb::Data(Data::Fetch { name }) => verbs::data::fetch(&name),
        Verb::Data(Data::Inspect { data, keys }) => verbs::data::inspect(&data, &keys),
        #[cfg(feature = "medical")]
        Verb::Cache(Cache::List(a)) => verbs::cache::list(a.folder),
        #[cfg(feature = "medical")]
        Verb::Cache(Cache::Clear(a)) => verbs::cache::clear(a.folder),
        Verb::Export(a) => verbs::export::run(&a.run, a.out.as_deref(), a.layout.as_deref(), a.force),
        Verb::Pull(a) => verbs::pull::run(&a.name),
        Verb::Doctor => verbs::doctor::run(),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "selfsup", &mut script);
            let script = String::from_utf8_lossy(&script);
            selfsup::say::text(format_args!("{script}"));
            selfsup::say::result(&serde_json::json!({ "shell": shell.to_string(), "script": script }));
            Ok(())
        }
    }
}
