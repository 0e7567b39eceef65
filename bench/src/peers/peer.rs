//! Which servers there are, what each needs, and in which cases it takes part.

use crate::{
    plan::{Case, Load, Loader, Procedure, What},
    programs::{self, Own},
};
use std::{env, path::PathBuf};

/// A server, in one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Forebay,
    /// Forebay where the kernel's setting gives it no large folios.
    ForebaySmallPages,
    /// Forebay in front of a directory, where the others of a case stand in front of an HTTP server.
    ForebayDirectory,
    Nginx,
    /// nginx that reads on its thread pool, as its documentation advises for files that are not in the page cache.
    NginxThreads,
    /// nginx with `proxy_cache`, in front of an HTTP server.
    NginxCache,
    Lighttpd,
    H2o,
    Caddy,
    Varnish,
    /// In front of an HTTP server.
    Squid,
    Memcached,
    Redis,
    /// A threaded server in Python with a dictionary.
    Naive,
    /// A bare event loop that can do nothing but hits; what the kernel's part of a hit costs.
    Floor,
}

/// In which comparison a server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What is compared with the others.
    Own,
    /// Serves files over HTTP: counts for the best peer.
    FileServer,
    /// Answers keys over its own protocol: shown beside, for small objects.
    KeyValue,
    /// A lower or an upper bound: shown beside.
    Bound,
}

/// Where the bare loop is, if anywhere.
const FLOOR_VARIABLE: &str = "FOREBAY_FLOOR";

/// The largest object of the key-value stores' cases.
const KEY_VALUE_MAX: u64 = 16 << 10;

impl Peer {
    pub const ALL: [Peer; 15] = [
        Peer::Forebay,
        Peer::ForebaySmallPages,
        Peer::ForebayDirectory,
        Peer::Nginx,
        Peer::NginxThreads,
        Peer::NginxCache,
        Peer::Lighttpd,
        Peer::H2o,
        Peer::Caddy,
        Peer::Varnish,
        Peer::Squid,
        Peer::Memcached,
        Peer::Redis,
        Peer::Naive,
        Peer::Floor,
    ];

    /// The name in options and results.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Forebay => "forebay",
            Peer::ForebaySmallPages => "forebay-4k-pages",
            Peer::ForebayDirectory => "forebay-directory",
            Peer::Nginx => "nginx",
            Peer::NginxThreads => "nginx-aio",
            Peer::NginxCache => "nginx-cache",
            Peer::Lighttpd => "lighttpd",
            Peer::H2o => "h2o",
            Peer::Caddy => "caddy",
            Peer::Varnish => "varnish",
            Peer::Squid => "squid",
            Peer::Memcached => "memcached",
            Peer::Redis => "redis",
            Peer::Naive => "naive",
            Peer::Floor => "floor",
        }
    }

    pub fn from_name(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|peer| peer.name() == name)
    }

    pub fn role(self) -> Role {
        match self {
            Peer::Forebay | Peer::ForebaySmallPages | Peer::ForebayDirectory => Role::Own,
            Peer::Nginx
            | Peer::NginxThreads
            | Peer::NginxCache
            | Peer::Lighttpd
            | Peer::H2o
            | Peer::Caddy
            | Peer::Varnish
            | Peer::Squid => Role::FileServer,
            Peer::Memcached | Peer::Redis => Role::KeyValue,
            Peer::Naive | Peer::Floor => Role::Bound,
        }
    }

    /// Programs and the Debian packages that they come in.
    fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Peer::Forebay | Peer::ForebaySmallPages | Peer::ForebayDirectory | Peer::Floor => &[],
            Peer::Nginx | Peer::NginxThreads | Peer::NginxCache => &[("nginx", "nginx-light")],
            Peer::Lighttpd => &[("lighttpd", "lighttpd")],
            Peer::H2o => &[("h2o", "h2o")],
            Peer::Caddy => &[("caddy", "caddy")],
            Peer::Varnish => &[("varnishd", "varnish"), ("nginx", "nginx-light")],
            Peer::Squid => &[("squid", "squid")],
            Peer::Memcached => &[("memcached", "memcached")],
            Peer::Redis => &[("redis-server", "redis-server")],
            Peer::Naive => &[("python3", "python3")],
        }
    }

    /// The Debian packages that are missing.
    pub fn missing(self) -> Vec<&'static str> {
        let missing = self.needs().iter().filter(|(program, _)| programs::find(program).is_none());
        missing.map(|&(_, package)| package).collect()
    }

    /// The program that is measured; `None` when it is not there.
    pub fn program(self, own: &Own) -> Option<PathBuf> {
        match self {
            Peer::Forebay | Peer::ForebaySmallPages | Peer::ForebayDirectory => Some(own.forebay.clone()),
            Peer::Floor => env::var_os(FLOOR_VARIABLE).map(PathBuf::from).filter(|file| file.is_file()),
            _ => programs::find(self.needs().first()?.0),
        }
    }

    /// What the program says about its version.
    pub fn version(self, own: &Own) -> String {
        let argument = match self {
            Peer::Forebay | Peer::ForebaySmallPages | Peer::ForebayDirectory | Peer::Naive | Peer::Squid => "--version",
            Peer::Nginx | Peer::NginxThreads | Peer::NginxCache | Peer::Lighttpd | Peer::H2o | Peer::Redis => "-v",
            Peer::Varnish | Peer::Memcached => "-V",
            Peer::Caddy => "version",
            Peer::Floor => return String::new(),
        };
        self.program(own).map(|program| programs::version(&program, argument)).unwrap_or_default()
    }

    /// Whether the server asks the kernel for large folios and may have them.
    pub fn large_folios(self) -> bool {
        self != Peer::ForebaySmallPages
    }

    /// Whether a case makes sense for this server. What is left out has its reason in the README.
    pub fn takes_part(self, case: &Case) -> bool {
        let load = match &case.procedure {
            Procedure::Load(load) => Some(load),
            _ => None,
        };
        if case.behind.is_some() {
            let hits = matches!(case.procedure, Procedure::Load(Load { what: What::File(_), .. }));
            return [Peer::Forebay, Peer::NginxCache, Peer::Varnish, Peer::Squid].contains(&self)
                || (hits && self == Peer::ForebayDirectory);
        }
        if case.is_site() {
            // lighttpd has no static variants, and Varnish's are those of the nginx behind it.
            let servers = [Peer::Forebay, Peer::Nginx, Peer::H2o, Peer::Caddy];
            return servers.contains(&self)
                || (!case.wants_variants() && [Peer::Lighttpd, Peer::Varnish].contains(&self));
        }
        let file = load.and_then(|load| match load.what {
            What::File(file) => Some(file),
            What::Mix | What::Misses(_) | What::New(_) | What::Site { .. } => None,
        });
        match self {
            Peer::ForebayDirectory | Peer::NginxCache | Peer::Squid => false,
            Peer::Forebay | Peer::Nginx | Peer::Lighttpd | Peer::H2o | Peer::Caddy | Peer::Varnish => true,
            // Small pages matter where bytes are sent by reference or filled in.
            Peer::ForebaySmallPages => match (&case.procedure, file) {
                (Procedure::Load(load), Some(file)) => {
                    load.loader == Loader::Loadgen && case.workers == 1 && file.size >= 16 << 10 && file.size < 64 << 20
                }
                (Procedure::Load(_), None) => true,
                _ => false,
            },
            Peer::NginxThreads => {
                matches!(case.procedure, Procedure::Cold { .. }) || file.is_some_and(|file| file.size > 64 << 20)
            }
            Peer::Memcached | Peer::Redis => {
                case.workers == 1
                    && load.is_some_and(|load| load.loader == Loader::Loadgen)
                    && file.is_some_and(|file| file.size <= KEY_VALUE_MAX)
            }
            // A dictionary without a limit never misses again; threads by the thousand and an open loop beyond its
            // means only measure the machine's patience.
            Peer::Naive => {
                let hits =
                    load.is_some_and(|load| load.loader == Loader::Loadgen && !matches!(load.what, What::Misses(_)));
                case.workers == 1 && (hits || matches!(case.procedure, Procedure::Startup))
            }
            // It answers one request at a time.
            Peer::Floor => {
                case.workers == 1
                    && load.is_some_and(|load| load.loader == Loader::Loadgen && load.pipeline == 1)
                    && file.is_some_and(|file| file.size < 64 << 20)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Scale, cases};

    fn taking_part(case: &str) -> Vec<&'static str> {
        let all = cases(&Scale::full());
        let case = all.iter().find(|one| one.name == case).expect(case);
        Peer::ALL.into_iter().filter(|peer| peer.takes_part(case)).map(Peer::name).collect()
    }

    #[test]
    fn names_lead_back_to_peers() {
        assert!(Peer::ALL.into_iter().all(|peer| Peer::from_name(peer.name()) == Some(peer)));
        assert_eq!(Peer::from_name("apache"), None);
    }

    #[test]
    fn peers_take_part_where_it_makes_sense() {
        let servers = ["forebay", "nginx", "lighttpd", "h2o", "caddy", "varnish"];
        assert_eq!(taking_part("workers-2-hits-4k"), servers);
        assert_eq!(taking_part("idle"), servers);
        assert_eq!(taking_part("open-4k"), servers);
        assert_eq!(taking_part("hits-4k-wrk"), servers);
        let with = |more: &[&'static str]| {
            let mut names: Vec<_> = servers.iter().chain(more).copied().collect();
            names.sort_by_key(|name| Peer::from_name(name));
            names
        };
        assert_eq!(taking_part("hits-4k"), with(&["memcached", "redis", "naive", "floor"]));
        assert_eq!(taking_part("hits-64k"), with(&["forebay-4k-pages", "naive", "floor"]));
        assert_eq!(taking_part("miss-warm-64k"), with(&["forebay-4k-pages"]));
        assert_eq!(taking_part("miss-cold-64k"), with(&["nginx-aio"]));
        assert_eq!(taking_part("huge"), with(&["nginx-aio", "naive"]));
        assert_eq!(taking_part("mix"), with(&["forebay-4k-pages", "naive"]));
        assert_eq!(taking_part("startup"), with(&["naive"]));
        assert_eq!(taking_part("static-20-4096"), ["forebay", "nginx", "h2o", "caddy"]);
        assert_eq!(taking_part("static-20-plain"), servers);
        assert_eq!(taking_part("origins-hit-4k"), ["forebay", "forebay-directory", "nginx-cache", "varnish", "squid"]);
        assert_eq!(taking_part("origins-trace"), ["forebay", "nginx-cache", "varnish", "squid"]);
    }
}
