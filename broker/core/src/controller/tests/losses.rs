//! Does somebody of ISR and ELR hold every acknowledged record, whatever brokers lose (KIP-966)?
//!
//! A model of the logs beside the real controller: three brokers, one partition, records that are acknowledged only as a
//! leader may. The promise: as long as fewer machines lose power than `min.insync.replicas`, nothing acknowledged is lost,
//! however many processes are killed; and when everybody is back, somebody leads.

use proptest::prelude::*;

use super::partitions::alter;
use super::*;

const NODES: i32 = 3;

#[derive(Debug, Clone, Copy)]
enum Op {
    Produce,
    /// The kernel writes back what a broker has in its page cache.
    Flush(i32),
    Kill(i32),
    PowerLoss(i32),
    /// A write fails: what was not flushed may be lost, now or later.
    Fail(i32),
    /// Its disk, while the broker is down, is put back to what was copied at its start.
    PutBack(i32),
    Stop(i32),
    /// The controller finds out that a process is gone.
    Notice(i32),
    Restart(i32),
    Lag(i32),
    CatchUp(i32),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    prop_oneof![
        6 => Just(Op::Produce),
        1 => node.clone().prop_map(Op::Flush),
        3 => node.clone().prop_map(Op::Kill),
        1 => node.clone().prop_map(Op::PowerLoss),
        1 => node.clone().prop_map(Op::Fail),
        1 => node.clone().prop_map(Op::PutBack),
        1 => node.clone().prop_map(Op::Stop),
        3 => node.clone().prop_map(Op::Notice),
        4 => node.clone().prop_map(Op::Restart),
        1 => node.clone().prop_map(Op::Lag),
        3 => node.prop_map(Op::CatchUp),
    ]
}

#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    end: u64,
    flushed: u64,
    is_down: bool,
    stopped_as: Option<BrokerEpoch>,
    /// The registration that is written down, if a process of this boot did so.
    registered: Option<BrokerEpoch>,
    /// Its end at its start, and what was written down before that.
    copy: (u64, Option<BrokerEpoch>),
    incarnation: u8,
    /// Whether the controller does not know yet that records may be missing.
    is_doubtful: bool,
}

struct Model {
    cluster: Cluster,
    topic: TopicId,
    disks: [Disk; NODES as usize],
    min_isr: usize,
    acknowledged: u64,
    losses: usize,
}

impl Model {
    fn new(min_isr: usize) -> Self {
        let mut cluster = Cluster::new(0);
        let mut disks = [Disk::default(); NODES as usize];
        for node in 0..NODES {
            restart(&mut cluster, node, &mut disks[index(node)]);
        }
        let topic = cluster.create_on("t", &[0, 1, 2]);
        let resource = ConfigResource::Topic("t".into());
        cluster
            .set(resource, "min.insync.replicas", &min_isr.to_string())
            .expect("accepted");
        Self {
            cluster,
            topic,
            disks,
            min_isr,
            acknowledged: 0,
            losses: 0,
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Produce => self.produce(),
            Op::Flush(node) => self.disk(node).flushed = self.disk(node).end,
            Op::Kill(node) => self.disk(node).is_down = true,
            Op::PowerLoss(node) => self.lose_power(node),
            Op::Fail(node) => self.fail(node),
            Op::PutBack(node) => self.put_back(node),
            Op::Stop(node) => self.stop(node),
            Op::Notice(node) if self.disk(node).is_down => self.cluster.kill(node),
            Op::Restart(node) if self.disk(node).is_down => {
                restart(&mut self.cluster, node, &mut self.disks[index(node)]);
            }
            Op::Notice(_) | Op::Restart(_) => {}
            Op::Lag(node) => self.lag(node),
            Op::CatchUp(node) => self.catch_up(node),
        }
        self.check();
    }

    fn disk(&mut self, node: i32) -> &mut Disk {
        &mut self.disks[index(node)]
    }

    /// The leader and the ISR, if the leader runs and has not been told otherwise.
    fn led(&self) -> Option<(i32, Vec<i32>)> {
        let (leader, isr) = self.cluster.state(self.topic);
        (leader >= 0 && !self.disks[index(leader)].is_down).then_some((leader, isr))
    }

    /// What the leader appends is acknowledged if the whole ISR, which is large enough, has it.
    fn produce(&mut self) {
        let Some((leader, isr)) = self.led() else {
            return;
        };
        let end = self.disk(leader).end + 1;
        self.disk(leader).end = end;
        let is_enough = isr.len() >= self.min_isr && self.cluster.holders(self.topic).1.is_empty();
        if is_enough && isr.iter().all(|node| !self.disk(*node).is_down) {
            isr.iter().for_each(|node| self.disk(*node).end = end);
            self.acknowledged = end;
        }
    }

    fn lose_power(&mut self, node: i32) {
        if self.losses + 1 >= self.min_isr {
            return; // more than is promised for
        }
        self.losses += 1;
        let disk = self.disk(node);
        disk.is_doubtful |= disk.flushed < disk.end;
        disk.end = disk.flushed.min(disk.end);
        disk.registered = None;
        disk.is_down = true;
        disk.stopped_as = None;
    }

    fn fail(&mut self, node: i32) {
        if self.losses + 1 >= self.min_isr || self.disk(node).is_down {
            return;
        }
        self.losses += 1;
        let told = self
            .cluster
            .heartbeat_with(node, |request| request.want_fence = true);
        let disk = self.disk(node);
        disk.is_doubtful |= told.is_err() && disk.flushed < disk.end;
        disk.end = disk.flushed.min(disk.end);
        disk.registered = None;
        disk.is_down = true;
    }

    fn put_back(&mut self, node: i32) {
        if self.losses + 1 >= self.min_isr || !self.disk(node).is_down {
            return;
        }
        self.losses += 1;
        let disk = self.disk(node);
        disk.is_doubtful |= disk.copy.0 < disk.end;
        disk.end = disk.copy.0.min(disk.end);
        disk.flushed = disk.flushed.min(disk.end);
        disk.registered = disk.copy.1;
        disk.stopped_as = None;
    }

    fn stop(&mut self, node: i32) {
        if self.disk(node).is_down {
            return;
        }
        for _ in 0..2 {
            self.cluster
                .heartbeat_with(node, |request| request.want_shut_down = true)
                .expect("registered");
        }
        let epoch = self.cluster.epochs[&node];
        let disk = self.disk(node);
        disk.stopped_as = Some(epoch);
        disk.flushed = disk.end;
        disk.is_down = true;
    }

    fn lag(&mut self, node: i32) {
        if let Some((leader, mut isr)) = self.led()
            && leader != node
        {
            isr.retain(|member| *member != node);
            self.propose(leader, &isr);
        }
    }

    fn catch_up(&mut self, node: i32) {
        let Some((leader, mut isr)) = self.led() else {
            return;
        };
        let end = self.disk(leader).end;
        if self.disk(node).is_down || isr.contains(&node) {
            return;
        }
        self.disk(node).end = end;
        isr.push(node);
        self.propose(leader, &isr);
    }

    /// The controller refuses members that it believes to be gone.
    fn propose(&mut self, leader: i32, isr: &[i32]) {
        let _ = alter(&mut self.cluster, leader, self.topic, isr, |_| {});
    }

    fn check(&self) {
        let (isr, elr) = self.cluster.holders(self.topic);
        let mut holds = 0;
        for node in isr.iter().chain(&elr) {
            let disk = &self.disks[index(*node)];
            let has_all = disk.end >= self.acknowledged;
            assert!(
                has_all || disk.is_doubtful,
                "{node} lacks records, and counts: {disk:?}"
            );
            holds += usize::from(has_all);
        }
        assert!(holds > 0, "nobody holds {} records", self.acknowledged);
    }

    fn heal(&mut self) {
        for op in [Op::Notice, Op::Restart, Op::CatchUp] {
            (0..NODES).for_each(|node| self.run(op(node)));
        }
    }
}

fn restart(cluster: &mut Cluster, node: i32, disk: &mut Disk) {
    disk.incarnation += 1;
    disk.is_down = false;
    disk.is_doubtful = false;
    let mut request = registration(node, disk.incarnation, 100 + disk_number(node));
    request.previous_epoch = disk.stopped_as.take().or(disk.registered);
    disk.copy = (disk.end, disk.registered);
    let epoch = cluster.register(request);
    disk.registered = Some(epoch.expect("the old process is gone"));
    cluster.heartbeat(node);
}

fn disk_number(node: i32) -> u8 {
    u8::try_from(node).expect("few nodes")
}

fn index(node: i32) -> usize {
    usize::try_from(node).expect("few nodes")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn somebody_of_isr_and_elr_holds_every_acknowledged_record(
        min_isr in 1usize..=3,
        ops in proptest::collection::vec(op(), 1..100),
    ) {
        let mut model = Model::new(min_isr);
        ops.iter().for_each(|op| model.run(*op));
        model.heal();
        let (leader, isr) = model.cluster.state(model.topic);
        prop_assert!(leader >= 0, "nobody leads though all are back");
        prop_assert!(model.disk(leader).end >= model.acknowledged);
        prop_assert_eq!(isr.len(), 3);
    }
}
