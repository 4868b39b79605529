//! Simpler plans: what shrinking tries.

use blockyard_block::ErrorPolicies;

use super::{
    AdminStep, Alignment, Away, DevicePlan, DiskPlan, End, Filter, GuestStep, How, Medium,
    MirrorPlan, Pause, Plan, StreamPlan,
};

impl Plan {
    pub(super) fn simpler_by_one(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        if self.devices.len() > 1 {
            let fewer = without(&self.devices);
            plans.extend(fewer.map(|devices| Self { devices, ..self.clone() }));
        }
        if self.faults > 0 {
            plans.push(Self { faults: self.faults - 1, ..self.clone() });
        }
        if self.crashes > 0 {
            plans.push(Self { crashes: self.crashes - 1, ..self.clone() });
        }
        for (index, device) in self.devices.iter().enumerate() {
            plans.extend(smaller_devices(device).into_iter().map(|device| {
                let mut plan = self.clone();
                plan.devices[index] = device;
                plan
            }));
        }
        plans
    }
}

/// The list without each of its items in turn.
pub(super) fn without<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..list.len()).map(|index| {
        let mut fewer = list.to_vec();
        fewer.remove(index);
        fewer
    })
}

fn smaller_devices(device: &DevicePlan) -> Vec<DevicePlan> {
    let whole = || device.clone();
    let mut devices = Vec::new();
    devices.extend(without(&device.guests).map(|guests| DevicePlan { guests, ..whole() }));
    devices.extend(without(&device.mirrors).map(|mirrors| DevicePlan { mirrors, ..whole() }));
    devices.extend(without(&device.admin).map(|admin| DevicePlan { admin, ..whole() }));
    devices.extend(without(&device.bitmaps).map(|bitmaps| DevicePlan { bitmaps, ..whole() }));
    for (index, changes) in device.bitmaps.iter().enumerate().filter(|(_, all)| all.len() > 1) {
        devices.extend(without(changes).map(|changes| {
            let mut device = whole();
            device.bitmaps[index] = changes;
            device
        }));
    }
    for (index, step) in device.admin.iter().enumerate() {
        devices.extend(smaller_changes(step).into_iter().map(|step| {
            let mut device = whole();
            device.admin[index] = step;
            device
        }));
    }
    devices.extend(without(&device.filters).map(|filters| DevicePlan { filters, ..whole() }));
    for (index, steps) in device.guests.iter().enumerate() {
        devices.extend(without(steps).chain(shorter(steps)).map(|steps| {
            let mut device = whole();
            device.guests[index] = steps;
            device
        }));
    }
    if device.chunks > 1 {
        devices.push(DevicePlan { chunks: 1, ..whole() });
        devices.push(DevicePlan { chunks: device.chunks - 1, ..whole() });
    }
    for (index, filter) in device.filters.iter().enumerate() {
        let plain = [Filter::Throttle { limited: false }, Filter::Raw];
        let simpler = plain.into_iter().take_while(|plain| plain != filter);
        devices.extend(simpler.map(|plain| {
            let mut device = whole();
            device.filters[index] = plain;
            device
        }));
    }
    if device.twin.is_some() {
        devices.push(DevicePlan { twin: None, ..whole() });
    }
    if device.policies != ErrorPolicies::default() {
        devices.push(DevicePlan { policies: ErrorPolicies::default(), ..whole() });
    }
    if device.resizes {
        devices.push(DevicePlan { resizes: false, ..whole() });
    }
    devices.extend(plainer_disks(device.disk).map(|disk| DevicePlan { disk, ..whole() }));
    for (index, mirror) in device.mirrors.iter().enumerate() {
        devices.extend(plainer(*mirror).into_iter().map(|mirror| {
            let mut device = whole();
            device.mirrors[index] = mirror;
            device
        }));
    }
    devices
}

fn smaller_changes(step: &AdminStep) -> Vec<AdminStep> {
    match step {
        AdminStep::Transaction(actions) => without(actions).map(AdminStep::Transaction).collect(),
        AdminStep::Reopen(nodes) => without(nodes).map(AdminStep::Reopen).collect(),
        AdminStep::ChangeMedium { away, back } if *away != Away::Nothing => {
            [AdminStep::ChangeMedium { away: Away::Nothing, back: *back }].into()
        }
        _ => Vec::new(),
    }
}

fn plainer_disks(disk: DiskPlan) -> impl Iterator<Item = DiskPlan> {
    let plainer = [
        DiskPlan { medium: Medium::File, ..disk },
        DiskPlan { medium: shorter_chain(disk.medium), ..disk },
        DiskPlan { alignment: Alignment::Byte, ..disk },
        DiskPlan { short: 0, ..disk },
        DiskPlan { spare: 0, ..disk },
    ];
    plainer.into_iter().filter(move |plainer| *plainer != disk)
}

fn shorter_chain(medium: Medium) -> Medium {
    match medium {
        Medium::Overlay { chain, small } => {
            Medium::Overlay { chain: chain.saturating_sub(1), small }
        }
        medium => medium,
    }
}

/// With one request at its device's beginning, or half as long, or made more plainly.
pub(super) fn shorter(steps: &[GuestStep]) -> impl Iterator<Item = Vec<GuestStep>> + '_ {
    steps.iter().enumerate().flat_map(move |(index, step)| {
        let requests: Vec<GuestStep> = match *step {
            GuestStep::Request { kind, sector, sectors, how } => {
                let request =
                    |sector, sectors, how| GuestStep::Request { kind, sector, sectors, how };
                let plainer = plainer_requests(how).map(|how| request(sector, sectors, how));
                let places = [(0, sectors), (sector, sectors / 2)].into_iter();
                let places = places.filter(|place| *place != (sector, sectors) && place.1 > 0);
                places
                    .map(|(sector, sectors)| request(sector, sectors, how))
                    .chain(plainer)
                    .collect()
            }
            _ => Vec::new(),
        };
        requests.into_iter().map(move |request| {
            let mut steps = steps.to_vec();
            steps[index] = request;
            steps
        })
    })
}

fn plainer_requests(how: How) -> impl Iterator<Item = How> {
    let plainer = [
        How { skew: 0, ..how },
        How { from: 0, ..how },
        How { fua: false, ..how },
        How { serialising: false, ..how },
        How { unmap: false, ..how },
        How { no_fallback: false, ..how },
        How { behind: false, ..how },
        How { cancel_after: None, ..how },
        How { cancel_after: how.cancel_after.map(|steps| (steps - 1).max(1)), ..how },
    ];
    plainer.into_iter().filter(move |plainer| *plainer != how)
}

fn simpler(stream: StreamPlan) -> StreamPlan {
    match stream.beside_commit {
        true => StreamPlan { beside_commit: false, ..stream },
        false => StreamPlan { down: 0, ..stream },
    }
}

fn plainer(mirror: MirrorPlan) -> Vec<MirrorPlan> {
    let plainer = [
        MirrorPlan { source: None, ..mirror },
        MirrorPlan { buffer: 1, ..mirror },
        MirrorPlan { switches: 0, ..mirror },
        MirrorPlan { commits: false, ..mirror },
        MirrorPlan { streams: None, ..mirror },
        MirrorPlan { streams: mirror.streams.map(simpler), ..mirror },
        MirrorPlan { alignment: Alignment::Byte, ..mirror },
        MirrorPlan { pause: Pause::Never, ..mirror },
        MirrorPlan { finalize: false, ..mirror },
        MirrorPlan { dismiss: false, ..mirror },
        MirrorPlan { back: false, ..mirror },
        MirrorPlan { in_transaction: false, ..mirror },
        MirrorPlan { full: true, ..mirror },
        MirrorPlan { active: Some(false), ..mirror },
        MirrorPlan { end: End::Complete, ..mirror },
    ];
    plainer.into_iter().filter(|plainer| *plainer != mirror).collect()
}
