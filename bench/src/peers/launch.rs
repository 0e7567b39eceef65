//! How each server is started: its command line, and its configuration from the templates in `bench/peers`.

use super::Peer;
use crate::{
    plan::{Setup, Stands},
    programs::{self, Own},
};
use anyhow::{Context, Result};
use rustix::process::{Resource, geteuid, getrlimit};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const NGINX: &str = include_str!("../../peers/nginx.conf");
const LIGHTTPD: &str = include_str!("../../peers/lighttpd.conf");
const H2O: &str = include_str!("../../peers/h2o.yaml");
const CADDY: &str = include_str!("../../peers/Caddyfile");
const VARNISH: &str = include_str!("../../peers/varnish.vcl");
const NGINX_CACHE: &str = include_str!("../../peers/nginx-cache.conf");
const SQUID: &str = include_str!("../../peers/squid.conf");
/// nginx's module for `.br` files (Debian: libnginx-mod-http-brotli-static), beside the program. Without it, nginx has
/// the `.gz` ones only.
const NGINX_BROTLI: &str = "../lib/nginx/modules/ngx_http_brotli_static_module.so";

fn nginx_brotli() -> Option<PathBuf> {
    let module = programs::find("nginx")?.parent()?.join(NGINX_BROTLI);
    fs::canonicalize(module).ok()
}

const NAIVE: &str = include_str!("../../peers/naive.py");

/// What all servers of a run have in common.
#[derive(Debug, Clone)]
pub struct Site {
    /// The directory served.
    pub root: PathBuf,
    /// Where each server has a directory for configuration and logs.
    pub state: PathBuf,
    /// A directory in memory, for caches that keep files.
    pub memory: PathBuf,
    pub own: Own,
}

/// One start of a server: where it listens, and a directory of its own for configuration and logs.
#[derive(Debug)]
pub struct Start<'a> {
    pub site: &'a Site,
    pub setup: Setup,
    pub port: u16,
    /// A second free port, for a server behind the server.
    pub origin_port: u16,
    pub state: PathBuf,
}

/// The programs to start, in this order; all of them are measured.
///
/// # Errors
/// A program that is not there, a configuration that cannot be written.
pub fn commands(peer: Peer, start: &Start) -> Result<Vec<Command>> {
    let own = &start.site.own;
    let (port, workers) = (start.port.to_string(), start.setup.workers.to_string());
    let mut command = Command::new(peer.program(own).with_context(|| format!("{} is not installed", peer.name()))?);
    match peer {
        Peer::Forebay | Peer::ForebaySmallPages | Peer::ForebayDirectory => {
            let listen = format!("127.0.0.1:{port}");
            command.arg("serve");
            match start.setup.stands {
                Stands::Before(origin) if peer != Peer::ForebayDirectory => {
                    command.arg(format!("http://127.0.0.1:{origin}/"));
                }
                _ => {
                    command.arg(&start.site.root);
                }
            }
            command.args(["--listen", &listen, "--workers", &workers]);
            // Time-outs as long as the peers have here.
            command.args(["--idle-timeout", "300s", "--drain", "0s"]);
        }
        Peer::Nginx => return Ok(vec![nginx(start, start.port, "")?]),
        Peer::NginxThreads => return Ok(vec![nginx(start, start.port, "aio threads;")?]),
        Peer::NginxCache => return Ok(vec![nginx_cache(start)?]),
        Peer::Squid => {
            let file = start.write("squid.conf", SQUID, &[("ORIGIN_PORT", &start.origin().to_string())])?;
            // In the foreground, as one process, which says on standard error what is wrong.
            command.args(["-N", "-d", "1", "-f"]).arg(file);
        }
        Peer::Lighttpd => {
            command.arg("-D").arg("-f").arg(start.write("lighttpd.conf", LIGHTTPD, &[])?);
        }
        Peer::H2o => {
            command.arg("-c").arg(start.write("h2o.yaml", H2O, &[])?);
        }
        Peer::Caddy => {
            let file = start.write("Caddyfile", CADDY, &[])?;
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("GOMAXPROCS", &workers);
            command.env("HOME", &start.state).env("XDG_DATA_HOME", &start.state).env("XDG_CONFIG_HOME", &start.state);
        }
        Peer::Varnish => return varnish(start, command),
        Peer::Memcached => {
            command.args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-m", "64", "-c", "20000", "-t", &workers]);
            if geteuid().is_root() {
                command.args(["-u", "root"]);
            }
        }
        Peer::Redis => {
            command.args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
                "--save",
                "",
                "--appendonly",
                "no",
                "--maxmemory",
                "64mb",
            ]);
            command.arg("--dir").arg(&start.state);
        }
        Peer::Naive => {
            command.arg(start.write("naive.py", NAIVE, &[])?).arg(&port).arg(&start.site.root);
        }
        Peer::Floor => {
            command.arg(&port);
        }
    }
    Ok(vec![command])
}

/// Varnish in front of the origin of the case, or of an nginx of its own.
fn varnish(start: &Start, mut command: Command) -> Result<Vec<Command>> {
    let (port, origin, workers) = (start.port, start.origin().to_string(), start.setup.workers);
    let file = start.write("varnish.vcl", VARNISH, &[("ORIGIN_PORT", &origin)])?;
    command.args(["-F", "-j", "none", "-T", "none", "-s", "malloc,64m"]);
    command.args(["-a", &format!("127.0.0.1:{port}"), "-f"]).arg(file).arg("-n").arg(start.state.join("varnish"));
    // No pool for each client's threads beyond the cores, no time-outs during the run, nothing compressed anew.
    let pools = format!("thread_pools={workers}");
    for parameter in [&pools, "thread_pool_min=100", "timeout_idle=300", "http_gzip_support=off"] {
        command.args(["-p", parameter]);
    }
    match start.setup.stands {
        Stands::Before(_) => Ok(vec![command]),
        Stands::Alone | Stands::Behind => Ok(vec![nginx(start, start.origin_port, "")?, command]),
    }
}

/// nginx with `proxy_cache`, whose files are in memory.
fn nginx_cache(start: &Start) -> Result<Command> {
    let cache = start.cache_directory();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let special = [("ORIGIN_PORT", start.origin().to_string()), ("CACHE", cache.display().to_string())];
    let special = special.each_ref().map(|(name, value)| (*name, value.as_str()));
    nginx_with(start, start.write("nginx.conf", NGINX_CACHE, &special)?)
}

fn nginx(start: &Start, port: u16, aio: &str) -> Result<Command> {
    let port = port.to_string();
    let holds = if start.setup.stands == Stands::Behind { "expires 1h;" } else { "" };
    let special = [("PORT", port.as_str()), ("AIO", aio), ("EXPIRES", holds)];
    nginx_with(start, start.write("nginx.conf", NGINX, &special)?)
}

fn nginx_with(start: &Start, file: PathBuf) -> Result<Command> {
    let mut command = Command::new(programs::find("nginx").context("nginx is not installed")?);
    // Before it has read its configuration it logs to a place that needs root.
    command.arg("-e").arg(start.state.join("error.log")).arg("-p").arg(&start.state).arg("-c").arg(file);
    Ok(command)
}

impl Start<'_> {
    /// The port of the HTTP server behind this one.
    fn origin(&self) -> u16 {
        match self.setup.stands {
            Stands::Before(origin) => origin,
            Stands::Alone | Stands::Behind => self.origin_port,
        }
    }

    /// Where a server that caches in files keeps them.
    pub fn cache_directory(&self) -> PathBuf {
        self.site.memory.join(format!("cache-{}", self.port))
    }

    /// Fills a template in and writes it into the server's directory. `special` values go before the common ones.
    fn write(&self, name: &str, template: &str, special: &[(&str, &str)]) -> Result<PathBuf> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let root = geteuid().is_root();
        let (variants, brotli) = (self.setup.variants, nginx_brotli().filter(|_| self.setup.variants));
        let values = [
            ("PORT", self.port.to_string()),
            ("ROOT", self.site.root.display().to_string()),
            ("STATE", self.state.display().to_string()),
            ("WORKERS", self.setup.workers.to_string()),
            ("FORKS", if self.setup.workers > 1 { self.setup.workers } else { 0 }.to_string()),
            ("NOFILE", files.to_string()),
            // The rest is for connections: 10,000 of them, with a common limit of 20,000.
            ("OPEN_FILES", (files / 2).saturating_sub(512).min(100_000).to_string()),
            ("AIO", String::new()),
            ("EXPIRES", String::new()),
            (
                "NGINX_VARIANTS",
                match (variants, &brotli) {
                    (true, Some(_)) => "gzip_static on; brotli_static on;".into(),
                    (true, None) => "gzip_static on;".into(),
                    (false, _) => String::new(),
                },
            ),
            ("NGINX_MODULES", brotli.map(|module| format!("load_module {};", module.display())).unwrap_or_default()),
            ("H2O_VARIANTS", if variants { "ON" } else { "OFF" }.to_owned()),
            ("CADDY_VARIANTS", if variants { "precompressed br gzip" } else { "" }.to_owned()),
            ("USER", if root { "user root;" } else { "" }.to_owned()),
            ("H2O_USER", if root { "user: root" } else { "" }.to_owned()),
        ];
        let special = special.iter().map(|&(name, value)| (name, value));
        let common = values.iter().map(|(name, value)| (*name, value.as_str()));
        let text = fill(template, special.chain(common));
        let file = self.state.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

fn fill<'a>(template: &str, values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    values.fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

/// The configuration as it is in the repository, for the results.
pub fn template(peer: Peer) -> Option<&'static str> {
    match peer {
        Peer::Nginx | Peer::NginxThreads => Some(NGINX),
        Peer::Lighttpd => Some(LIGHTTPD),
        Peer::H2o => Some(H2O),
        Peer::Caddy => Some(CADDY),
        Peer::Varnish => Some(VARNISH),
        Peer::Naive => Some(NAIVE),
        Peer::NginxCache => Some(NGINX_CACHE),
        Peer::Squid => Some(SQUID),
        Peer::Forebay
        | Peer::ForebaySmallPages
        | Peer::ForebayDirectory
        | Peer::Memcached
        | Peer::Redis
        | Peer::Floor => None,
    }
}

/// The command line, for the results: paths shortened to names.
pub fn shown(command: &Command) -> String {
    let short = |word: &std::ffi::OsStr| {
        let path = Path::new(word);
        match (path.is_absolute(), path.file_name()) {
            (true, Some(name)) => name.to_string_lossy().into_owned(),
            _ => word.to_string_lossy().into_owned(),
        }
    };
    let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(short).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = Own { forebay: "/x/forebay".into(), loadgen: "/x/loadgen".into() };
        let site = Site { root: "/srv/files".into(), state: directory.path().into(), memory: "/dev/shm/x".into(), own };
        let start = Start {
            site: &site,
            setup: Setup { workers: 2, variants: true, stands: Stands::Alone },
            port: 1234,
            origin_port: 4321,
            state: directory.path().to_owned(),
        };
        for (template, special) in [
            (NGINX, &[("PORT", "77")][..]),
            (LIGHTTPD, &[]),
            (H2O, &[]),
            (CADDY, &[]),
            (VARNISH, &[("ORIGIN_PORT", "4321")]),
            (NGINX_CACHE, &[("ORIGIN_PORT", "4321"), ("CACHE", "/dev/shm/x")]),
            (SQUID, &[("ORIGIN_PORT", "4321")]),
            (NAIVE, &[]),
        ] {
            let text = fs::read_to_string(start.write("x", template, special).expect("written")).expect("read");
            assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        }
        let text = fs::read_to_string(start.write("x", NGINX, &[("PORT", "77")]).expect("written")).expect("read");
        assert!(text.contains("127.0.0.1:77 ") && text.contains("worker_processes 2;"), "{text}");
    }

    #[test]
    fn commands_are_shown_without_places() {
        let mut command = Command::new("/usr/sbin/server");
        command.args(["-c", "/tmp/somewhere/server.conf", "--port", "80"]);
        assert_eq!(shown(&command), "server -c server.conf --port 80");
    }
}
