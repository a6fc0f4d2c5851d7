//! Whom to ask, when to ask somebody else, and whose answer counts.
//!
//! Name servers are asked in the order in which they were given, healthy ones first, and one that is much faster than those
//! before it first of all. Whoever is silent for a moment gets a rival. An answer with records wins at once. That there is
//! nothing is believed of a later server only when the earlier ones have answered too, or had time enough: so a company's own
//! server is not outrun by a public one that knows none of its names.
//!
//! All times are in microseconds of the caller's clock.

/// A millisecond.
pub const MS: u64 = 1000;
/// How long the first server is waited for before the second is asked, if nothing is known of it.
const FIRST_PATIENCE: u64 = 40 * MS;
/// The same for one that is known: twice its usual time, within these bounds.
const RIVAL: (u64, u64) = (10 * MS, 40 * MS);
/// The same for one that is believed dead.
const RIVAL_OF_DEAD: u64 = 5 * MS;
/// After how long a server has missed a question: four times its usual time and a little, within these bounds.
const MISSED: (u64, u64) = (60 * MS, 1000 * MS);
/// The same if nothing is known of it.
const MISSED_FIRST: u64 = 90 * MS;
/// So many questions missed one after the other, and a server is believed dead.
const DEAD: u32 = 2;
/// How long until one that is believed dead is tried again, at first and at most.
const TRY_AGAIN: (u64, u64) = (1000 * MS, 30_000 * MS);
/// When all were asked and nobody answered, they are asked again after this long, and after twice as long again.
const AGAIN: u64 = 700 * MS;
/// When a question is given up.
pub const GIVE_UP: u64 = 4500 * MS;

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Its usual time to an answer; `None`: it has not answered yet.
    usual: Option<u64>,
    /// When it last answered.
    heard: u64,
    /// Questions that it missed since.
    missed: u32,
    /// It is believed dead, and not tried before this time.
    dead_until: Option<u64>,
}

/// A server's standing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is believed dead.
    Dead,
    /// It has answered again.
    Alive,
}

impl Health {
    /// It answered after this time.
    pub fn answered(&mut self, took: u64, now: u64) -> Option<Turn> {
        let usual = self.usual.map_or(took, |usual| (usual * 7 + took) / 8);
        // Back from the dead it may be another than it was.
        let usual = if self.dead_until.is_some() { took } else { usual };
        let was_dead = self.dead_until.is_some();
        *self = Health { usual: Some(usual), heard: now, missed: 0, dead_until: None };
        was_dead.then_some(Turn::Alive)
    }

    /// It has let a question wait that was sent at `sent`.
    pub fn missed(&mut self, sent: u64, now: u64) -> Option<Turn> {
        // It has answered others meanwhile, so this one is hard or got lost.
        if self.heard > sent {
            return None;
        }
        self.missed += 1;
        (self.missed >= DEAD).then(|| self.die(now)).flatten()
    }

    /// Nobody is there: the network says so.
    pub fn unreachable(&mut self, now: u64) -> Option<Turn> {
        self.missed = self.missed.max(DEAD - 1) + 1;
        self.die(now)
    }

    fn die(&mut self, now: u64) -> Option<Turn> {
        let (first, most) = TRY_AGAIN;
        let was_dead = self.dead_until.is_some();
        // Waiting questions of the same moment count once.
        if self.dead_until.is_none_or(|until| until <= now) {
            let pause = first << (self.missed - DEAD).min(8);
            self.dead_until = Some(now + pause.min(most));
        }
        (!was_dead).then_some(Turn::Dead)
    }

    /// It is believed dead.
    pub fn is_dead(&self) -> bool {
        self.dead_until.is_some()
    }

    /// It is believed dead, and time to see whether that is so. Asking is promised, so this is true once.
    pub fn is_to_be_tried(&mut self, now: u64) -> bool {
        let due = self.dead_until.is_some_and(|until| until <= now);
        if due {
            self.dead_until = Some(now + TRY_AGAIN.0);
        }
        due
    }

    /// How long a question may take until it counts as missed.
    pub fn patience(&self) -> u64 {
        self.usual.map_or(MISSED_FIRST, |usual| (usual * 4 + 30 * MS).clamp(MISSED.0, MISSED.1))
    }

    fn until_rival(&self) -> u64 {
        match self.usual {
            _ if self.is_dead() => RIVAL_OF_DEAD,
            None => FIRST_PATIENCE,
            Some(usual) => (usual * 2).clamp(RIVAL.0, RIVAL.1),
        }
    }

    /// Servers of one class are as good as each other.
    fn class(&self) -> u8 {
        match self.usual {
            _ if self.is_dead() => 4,
            None => 0,
            Some(usual) if usual < 50 * MS => 0,
            Some(usual) if usual < 200 * MS => 1,
            Some(usual) if usual < 800 * MS => 2,
            Some(_) => 3,
        }
    }
}

/// In which order servers are asked, by their places in the list.
pub fn order(servers: &[Health]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by_key(|at| servers[*at].class());
    order
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// There are records.
    Records,
    /// There are none.
    Nothing,
    /// It does not answer this question, or cannot.
    Failure,
}

/// What is to be done with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait until this time.
    Wait(u64),
    /// Ask the server at this place of the list.
    Ask(usize),
    /// The answer of the server at this place is the one.
    Take(usize),
    /// Nobody will answer.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Open,
    /// It has had time enough.
    Missed,
    Said(Heard),
    /// Nobody is there.
    Gone,
}

/// One question on its way to several servers.
#[derive(Clone, Debug)]
pub struct Race {
    order: Vec<usize>,
    /// Of those that were asked, in the same order.
    lanes: Vec<Lane>,
    started: u64,
    /// When the next one is asked, or all of them again.
    next: u64,
    /// How often all were asked.
    round: u32,
    /// Who is asked once more now.
    again: usize,
}

impl Race {
    /// One that begins now: [`Race::next`] says with whom.
    pub fn new(servers: &[Health], now: u64) -> Race {
        let order = order(servers);
        let again = order.len();
        Race { order, lanes: Vec::new(), started: now, next: now, round: 0, again }
    }

    fn lane(&mut self, server: usize) -> Option<&mut Lane> {
        let at = self.order.iter().position(|of| *of == server)?;
        self.lanes.get_mut(at)
    }

    /// A server answered.
    pub fn heard(&mut self, server: usize, what: Heard, now: u64) {
        if let Some(lane) = self.lane(server) {
            *lane = Lane::Said(what);
        }
        if what == Heard::Failure {
            self.hurry(now);
        }
    }

    /// A server has had time enough; it may answer yet.
    pub fn missed(&mut self, server: usize) {
        if let Some(lane @ Lane::Open) = self.lane(server) {
            *lane = Lane::Missed;
        }
    }

    /// A server is not there.
    pub fn gone(&mut self, server: usize, now: u64) {
        if let Some(lane @ (Lane::Open | Lane::Missed)) = self.lane(server) {
            *lane = Lane::Gone;
        }
        self.hurry(now);
    }

    /// The next one is not to wait for its turn.
    fn hurry(&mut self, now: u64) {
        if self.lanes.len() < self.order.len() {
            self.next = self.next.min(now);
        }
    }

    /// What is to be done now. To be asked until it says to wait, or that it is over.
    pub fn next(&mut self, servers: &[Health], now: u64) -> Next {
        let mut earlier_open = false;
        let mut nothing = None;
        for (server, lane) in self.order.iter().zip(&self.lanes) {
            match lane {
                Lane::Said(Heard::Records) => return Next::Take(*server),
                Lane::Said(Heard::Nothing) if !earlier_open => return Next::Take(*server),
                Lane::Said(Heard::Nothing) => nothing = nothing.or(Some(*server)),
                Lane::Open => earlier_open = true,
                Lane::Missed | Lane::Said(Heard::Failure) | Lane::Gone => {}
            }
        }
        if now >= self.started + GIVE_UP {
            return nothing.or_else(|| self.failure()).map_or(Next::GiveUp, Next::Take);
        }
        if self.again < self.order.len() {
            let server = self.order[self.again];
            let silent = matches!(self.lanes[self.again], Lane::Open | Lane::Missed);
            self.again += 1;
            return if silent { Next::Ask(server) } else { self.next(servers, now) };
        }
        // As long as somebody has said that there is nothing, only those that were asked are waited for.
        let more = self.lanes.len() < self.order.len() && nothing.is_none();
        if more && now >= self.next {
            let server = self.order[self.lanes.len()];
            self.lanes.push(Lane::Open);
            let wait = servers.get(server).map_or(FIRST_PATIENCE, Health::until_rival);
            self.next = now + if self.lanes.len() < self.order.len() { wait } else { AGAIN };
            return Next::Ask(server);
        }
        let open = self.lanes.iter().any(|lane| matches!(lane, Lane::Open | Lane::Missed));
        if !more && !open {
            return nothing.or_else(|| self.failure()).map_or(Next::GiveUp, Next::Take);
        }
        if !more && nothing.is_none() && now >= self.next {
            self.round += 1;
            self.next = now + (AGAIN << self.round.min(8));
            self.again = 0;
            return self.next(servers, now);
        }
        let end = self.started + GIVE_UP;
        Next::Wait(if nothing.is_some() { end } else { self.next.min(end) })
    }

    fn failure(&self) -> Option<usize> {
        let failed = |lane: &Lane| *lane == Lane::Said(Heard::Failure);
        self.lanes.iter().position(failed).map(|at| self.order[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy(ms: u64) -> Health {
        let mut health = Health::default();
        health.answered(ms * MS, 0);
        health
    }

    fn dead() -> Health {
        let mut health = Health::default();
        assert_eq!(health.unreachable(0), Some(Turn::Dead));
        health
    }

    #[test]
    fn the_first_is_asked_first_unless_it_is_dead_or_much_slower() {
        assert_eq!(order(&[healthy(20), healthy(1), Health::default()]), [0, 1, 2]);
        assert_eq!(order(&[healthy(60), healthy(1), healthy(300)]), [1, 0, 2]);
        assert_eq!(order(&[dead(), healthy(300)]), [1, 0]);
        assert_eq!(order(&[dead(), dead()]), [0, 1]);
        assert_eq!(order(&[]), [0; 0]);
    }

    #[test]
    fn a_silent_server_gets_a_rival_and_the_rivals_records_win() {
        let servers = [healthy(5), healthy(5)];
        let mut race = Race::new(&servers, 0);
        assert_eq!(race.next(&servers, 0), Next::Ask(0));
        assert_eq!(race.next(&servers, 0), Next::Wait(10 * MS));
        assert_eq!(race.next(&servers, 10 * MS), Next::Ask(1));
        assert!(matches!(race.next(&servers, 10 * MS), Next::Wait(_)));
        race.heard(1, Heard::Records, 11 * MS);
        assert_eq!(race.next(&servers, 11 * MS), Next::Take(1));
    }

    #[test]
    fn a_rivals_nothing_waits_for_those_before_it() {
        let servers = [healthy(5), healthy(5), healthy(5)];
        let race = || {
            let mut race = Race::new(&servers, 0);
            assert_eq!(race.next(&servers, 0), Next::Ask(0));
            assert_eq!(race.next(&servers, 10 * MS), Next::Ask(1));
            race.heard(1, Heard::Nothing, 12 * MS);
            // The third would have no say.
            assert_eq!(race.next(&servers, 30 * MS), Next::Wait(GIVE_UP));
            race
        };
        let mut one = race();
        one.heard(0, Heard::Records, 30 * MS);
        assert_eq!(one.next(&servers, 30 * MS), Next::Take(0));
        let mut one = race();
        one.heard(0, Heard::Failure, 30 * MS);
        assert_eq!(one.next(&servers, 30 * MS), Next::Take(1));
        let mut one = race();
        one.gone(0, 30 * MS);
        assert_eq!(one.next(&servers, 30 * MS), Next::Take(1));
        let mut one = race();
        one.missed(0);
        assert_eq!(one.next(&servers, 60 * MS), Next::Take(1));
        // Of the first it is believed at once.
        let mut race = Race::new(&servers, 0);
        race.next(&servers, 0);
        race.heard(0, Heard::Nothing, 1);
        assert_eq!(race.next(&servers, 1), Next::Take(0));
    }

    #[test]
    fn failures_go_on_to_the_next_at_once_and_the_first_is_told_if_all_fail() {
        let servers = [healthy(5), healthy(5)];
        let mut race = Race::new(&servers, 0);
        assert_eq!(race.next(&servers, 0), Next::Ask(0));
        race.heard(0, Heard::Failure, MS);
        assert_eq!(race.next(&servers, MS), Next::Ask(1));
        race.heard(1, Heard::Failure, 2 * MS);
        assert_eq!(race.next(&servers, 2 * MS), Next::Take(0));
        let mut race = Race::new(&servers, 0);
        race.next(&servers, 0);
        race.gone(0, MS);
        assert_eq!(race.next(&servers, MS), Next::Ask(1));
        race.gone(1, MS);
        assert_eq!(race.next(&servers, MS), Next::GiveUp);
        assert_eq!(Race::new(&[], 0).next(&[], 0), Next::GiveUp);
    }

    /// Everything that a race asks for until it is over, if nobody answers: when and whom.
    fn unanswered(servers: &[Health]) -> (Vec<(u64, usize)>, u64) {
        let (mut race, mut now, mut asked) = (Race::new(servers, 0), 0, Vec::new());
        loop {
            match race.next(servers, now) {
                Next::Ask(server) => asked.push((now / MS, server)),
                Next::Wait(until) => {
                    assert!(until > now, "{until} at {now}");
                    now = until;
                }
                Next::GiveUp => return (asked, now / MS),
                Next::Take(server) => panic!("nobody answered, and {server} is taken"),
            }
        }
    }

    #[test]
    fn silence_is_asked_again_and_given_up() {
        assert_eq!(unanswered(&[healthy(5)]), (vec![(0, 0), (700, 0), (2100, 0)], 4500));
        assert_eq!(
            unanswered(&[Health::default(), dead()]),
            (vec![(0, 0), (40, 1), (740, 0), (740, 1), (2140, 0), (2140, 1)], 4500)
        );
        assert_eq!(unanswered(&[dead(), dead(), dead()]).0[..3], [(0, 0), (5, 1), (10, 2)]);
    }

    #[test]
    fn who_misses_two_questions_is_dead_until_it_answers() {
        let mut health = healthy(1);
        assert_eq!(health.patience(), 60 * MS);
        // Others were answered after that question was sent.
        health.answered(MS, 50 * MS);
        assert_eq!(health.missed(40 * MS, 100 * MS), None);
        assert_eq!(health.missed(60 * MS, 120 * MS), None);
        assert!(!health.is_dead());
        assert_eq!(health.missed(61 * MS, 121 * MS), Some(Turn::Dead));
        assert_eq!(health.missed(62 * MS, 122 * MS), None);
        assert!(!health.is_to_be_tried(1000 * MS));
        assert!(health.is_to_be_tried(1121 * MS), "a second later");
        assert!(!health.is_to_be_tried(1122 * MS), "by one question only");
        // The pauses grow.
        assert_eq!(health.missed(1121 * MS, 2200 * MS), None);
        assert!(!health.is_to_be_tried(3300 * MS) && health.is_to_be_tried(60_000 * MS));
        assert_eq!(health.answered(7 * MS, 61_000 * MS), Some(Turn::Alive));
        assert_eq!((health.is_dead(), health.usual), (false, Some(7 * MS)));
        assert_eq!(health.answered(15 * MS, 62_000 * MS), None);
        assert_eq!(health.usual, Some(8 * MS));
    }
}
