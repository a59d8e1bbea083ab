//! Where the broker's configuration comes from: the same for every command that needs it.

use std::path::PathBuf;

use clap::Args;
use corelane_broker::config::{BrokerConfig, ConfigFile, ConfigSources};
use corelane_broker::runtime::this_machine;

use crate::failure::Failure;

/// The flags that every command takes which needs the broker's configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigurationArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory that holds everything the broker keeps [default: corelane-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Bootstrap address; port 0 picks a free one [default: 127.0.0.1:9500]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Address of metrics, health and readiness; port 0 picks a free one, `off` turns it off [default:
    /// 127.0.0.1:9600]
    #[arg(long, value_name = "HOST:PORT|off")]
    admin_listen: Option<String>,

    /// Number of cores to run on, or a list of CPU numbers such as 0,2,3 [default: all]. A new
    /// data directory gets as many stores as cores, for ever, so more cores later have no work there
    #[arg(long, value_name = "N|LIST")]
    cores: Option<String>,

    /// Accept clients beyond this machine although nobody is authenticated
    #[arg(long)]
    insecure: bool,
}

impl ConfigurationArguments {
    /// Reads the configuration: the file, this process's environment, the flags.
    pub(super) fn load(self) -> Result<BrokerConfig, Failure> {
        let insecure = self.insecure.then(|| "true".to_owned());
        let flags = [
            ("--data-dir", "data_dir", self.data_dir),
            ("--listen", "listen", self.listen),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--cores", "cores", self.cores),
            ("--insecure", "insecure", insecure),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(flag, key, value)| Some((flag, key, value?)));
        let sources = ConfigSources {
            file: self.config.map(read_file).transpose()?,
            // A name or value that is not Unicode can be no setting of ours.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            flags: flags.collect(),
            machine: this_machine(),
        };
        BrokerConfig::load(&sources).map_err(Failure::configuration)
    }
}

fn read_file(path: PathBuf) -> Result<ConfigFile, Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(ConfigFile { name, text }),
        Err(error) => Err(Failure::new(format_args!(
            "cannot read configuration {name}: {error}"
        ))),
    }
}
