//! Databricks, MLflow, Slack and the mail server fail.

use local_stack::peers::{databricks, slack, smtp, tracking};
use rand::Rng as _;

use super::{Kind, Nemesis};
use crate::faults::world::World;

impl Nemesis {
    /// The next run goes wrong, or takes its time.
    pub(super) fn run(&mut self, world: &World) -> String {
        use databricks::{Outcome, RunPlan, RunState};
        let choice = self.rng.random_range(0..5);
        let (told, plan) = match choice {
            0 => (
                "the notebook raises an error",
                RunPlan::fails(Outcome::new(
                    "FAILED",
                    "RUN_EXECUTION_ERROR",
                    "CLIENT_ERROR",
                    "the notebook raised an error",
                )),
            ),
            1 => (
                "the cloud fails",
                RunPlan::fails(Outcome::new(
                    "FAILED",
                    "CLOUD_FAILURE",
                    "CLOUD_FAILURE",
                    "no machines",
                )),
            ),
            2 => (
                "the platform fails",
                RunPlan::through([], RunState::InternalError("driver lost".to_owned())),
            ),
            3 if self.patient => ("a run never ends", RunPlan::stays(RunState::Running)),
            _ => (
                "a run takes long",
                RunPlan::through(
                    vec![RunState::Running; 60],
                    RunState::Terminated(Outcome::success()),
                ),
            ),
        };
        world.databricks.plan([plan]);
        told.to_owned()
    }

    pub(super) fn peer(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        let times = self.rng.random_range(1..=3);
        let choice = self.rng.random_range(0..6);
        let slow = self.milliseconds(100, 4_000);
        Ok(match kind {
            Kind::Databricks => {
                use databricks::{Call, Fault};
                let call = [Call::Submit, Call::Get, Call::Submit, Call::Cancel][self.rng.random_range(0..4)];
                let fault = match choice {
                    0 => Fault::TooManyRequests {
                        retry_after: Some("1".to_owned()),
                    },
                    1 => Fault::ServerError,
                    2 => Fault::Unavailable,
                    3 => Fault::AnswerLost,
                    4 => Fault::RequestLost,
                    _ => Fault::Slow(slow),
                };
                world.databricks.fail(call, vec![fault.clone(); times]);
                format!("{call:?}: {times} times {fault:?}")
            }
            Kind::Mlflow => {
                use tracking::Fault;
                let fault = match choice {
                    0 => Fault::ServerError,
                    1 => Fault::TooManyRequests,
                    2 => Fault::Page,
                    3 => Fault::AnswerLost,
                    4 => Fault::DoneThenError,
                    _ => Fault::Slow(slow),
                };
                world.tracking.fail(vec![fault.clone(); times]);
                format!("{times} times {fault:?}")
            }
            Kind::Slack => {
                use slack::Answer;
                let answer = match choice {
                    0 | 1 => Answer::TooManyRequests { retry_after: 1 },
                    2 | 3 => Answer::ServerError,
                    4 => Answer::AnswerLost,
                    _ => Answer::Slow(slow),
                };
                world.slack.script(vec![answer.clone(); times]);
                format!("{times} times {answer:?}")
            }
            _ => {
                use smtp::Answer;
                let answer = if choice < 3 {
                    Answer::Refuse("451 try again later".to_owned())
                } else {
                    Answer::AnswerLost
                };
                world.smtp.script(vec![answer.clone(); times])?;
                format!("{times} times {answer:?}")
            }
        })
    }
}
