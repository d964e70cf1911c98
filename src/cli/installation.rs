//! What an installation puts into its injections: the same for the webhook and for manifests in files.

use clap::ValueEnum;

use crate::admission::{AgentDelivery, Installation};

/// How the agent gets into gated pods, as an option.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Delivery {
    /// An init container copies it
    #[default]
    InstallContainer,
    /// The image is mounted as a volume, where the runtime mounts images executable
    ImageVolume,
}

/// This version of the program, with an operator's choices.
pub(super) fn installation(agent_image: String, delivery: Delivery) -> Installation {
    let delivery = match delivery {
        Delivery::InstallContainer => AgentDelivery::InstallContainer,
        Delivery::ImageVolume => AgentDelivery::ImageVolume,
    };
    Installation { agent_image, delivery, version: env!("CARGO_PKG_VERSION") }
}
