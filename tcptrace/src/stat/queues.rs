//! Accept queues: connections that are complete and wait for their program, and the half-open ones before them.

use crate::{
    event::TcpState,
    sight::{Kind, Sight},
};
use hashbrown::HashMap;
use std::{cmp::Reverse, net::SocketAddr};

/// Listeners, and ports with half-open requests, that are remembered.
const MAX_KEPT: usize = 65_536;

/// A listener's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Network namespace.
    pub netns: u32,
    /// Where it listens.
    pub local: SocketAddr,
    /// Connections that wait to be accepted.
    pub waiting: u64,
    /// What listen() asked for, as far as somaxconn allowed it.
    pub limit: u64,
    /// Half-open requests to its port; `None` where several listen on that port: the kernel does not say whose they are.
    pub half_open: Option<u64>,
}

impl Queue {
    /// The kernel takes one more than the limit (`sk_acceptq_is_full`: backlog > max, up to 7.3), then drops what would
    /// complete.
    pub fn is_full(&self) -> bool {
        self.waiting > self.limit
    }

    /// As many half-open requests as the limit, or one more, which 6.18 takes (17 at a limit of 16, 1 at 0). A further SYN
    /// gets a cookie, or nothing where cookies are off.
    pub fn is_flooded(&self) -> bool {
        self.half_open.is_some_and(|requests| requests > 0 && requests >= self.limit)
    }
}

/// Collects them.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    listeners: Vec<Queue>,
    requests: HashMap<(u32, u16), u64>,
    /// Listeners that were not kept.
    beyond: u64,
}

impl Queues {
    /// Looks at a socket: a listener, or a half-open request.
    pub fn add(&mut self, sight: &Sight) {
        let port = (sight.netns, sight.ends.lport);
        if sight.kind == Kind::Request {
            if self.requests.len() < MAX_KEPT || self.requests.contains_key(&port) {
                *self.requests.entry(port).or_default() += 1;
            }
        } else if sight.state == TcpState::Listen {
            if self.listeners.len() >= MAX_KEPT {
                self.beyond += 1;
                return;
            }
            self.listeners.push(Queue {
                netns: sight.netns,
                local: sight.ends.local(),
                waiting: u64::from(sight.receive_queue),
                limit: u64::from(sight.send_queue),
                half_open: None,
            });
        }
    }

    /// All of them, the fullest first, and how many were not kept.
    pub fn fullest_first(mut self) -> (Vec<Queue>, u64) {
        let mut sharing: HashMap<_, u64> = HashMap::new();
        let port = |queue: &Queue| (queue.netns, queue.local.port());
        self.listeners.iter().for_each(|queue| *sharing.entry(port(queue)).or_default() += 1);
        let complete = self.requests.len() < MAX_KEPT && self.beyond == 0;
        for queue in &mut self.listeners {
            let alone = complete && sharing.get(&port(queue)) == Some(&1);
            queue.half_open = alone.then(|| self.requests.get(&port(queue)).copied().unwrap_or(0));
        }
        // In thousandths of what fits, so that 1 of 1 stands above 100 of 1000.
        let share = |queue: &Queue| queue.waiting.saturating_mul(1000) / queue.limit.saturating_add(1);
        let half_open = |queue: &Queue| queue.half_open.unwrap_or(0);
        self.listeners.sort_by_key(|queue| {
            (Reverse((share(queue), queue.waiting, half_open(queue))), queue.netns, queue.local)
        });
        (self.listeners, self.beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn listener(local: &str, waiting: u32, limit: u32) -> Sight {
        Sight {
            receive_queue: waiting,
            send_queue: limit,
            ..sight(TcpState::Listen, local, if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })
        }
    }

    fn request(local: &str) -> Sight {
        Sight { kind: Kind::Request, ..sight(TcpState::NewSynRecv, local, "10.0.0.9:40000") }
    }

    #[test]
    fn the_fullest_comes_first_and_full_is_one_more_than_the_limit() {
        let mut queues = Queues::default();
        for (local, waiting, limit) in
            [("0.0.0.0:80", 10, 1000), ("0.0.0.0:81", 2, 2), ("0.0.0.0:82", 3, 2), ("0.0.0.0:83", 0, 0)]
        {
            queues.add(&listener(local, waiting, limit));
        }
        queues.add(&sight(TcpState::Established, "10.0.0.1:80", "10.0.0.9:1"));
        let (sorted, beyond) = queues.fullest_first();
        let ports: Vec<_> = sorted.iter().map(|queue| (queue.local.port(), queue.is_full())).collect();
        assert_eq!(ports, [(82, true), (81, false), (80, false), (83, false)]);
        assert_eq!(beyond, 0);
    }

    #[test]
    fn half_open_requests_belong_to_the_only_listener_of_their_port() {
        let mut queues = Queues::default();
        queues.add(&listener("0.0.0.0:80", 0, 2));
        queues.add(&listener("10.0.0.1:81", 0, 2));
        queues.add(&listener("[::]:81", 0, 2));
        for local in ["10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:81"] {
            queues.add(&request(local));
        }
        queues.add(&Sight { netns: 8, ..request("10.0.0.1:80") });
        let (sorted, _) = queues.fullest_first();
        let of = |port| sorted.iter().find(|queue| queue.local.port() == port).unwrap();
        assert_eq!((of(80).half_open, of(80).is_flooded()), (Some(2), true));
        assert_eq!((of(81).half_open, of(81).is_flooded()), (None, false));
    }

    #[test]
    fn an_idle_listener_with_backlog_0_is_not_flooded() {
        let mut queues = Queues::default();
        queues.add(&listener("0.0.0.0:80", 0, 0));
        let (sorted, _) = queues.fullest_first();
        assert!(!sorted[0].is_flooded() && !sorted[0].is_full());
    }
}
