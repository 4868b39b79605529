//! Requests to disk `a` by whole sectors, and what came of them in words.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use blockyard_runtime::{Runtime, Storage};
use blockyard_sim::{Budgets, Exploration, Explorer, Limits, Reduction, SimDisk, Verdict};
use blockyard_sync::door::world::Quiet;
use blockyard_units::ByteRange;

use super::{Board, Small, program, setup, task};

pub const SECTOR: u64 = 512;

/// A request; sectors are counted from the disk's beginning.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// (first sector, sectors, the byte that fills them)
    Write(u64, u64, u8),
    /// (first sector, sectors)
    Read(u64, u64),
    Flush,
}

/// `ok`, the error's name, or for a read one digit for each sector: the byte that fills it, or `x`.
pub async fn ask(disk: &SimDisk, request: Request) -> String {
    let done = match request {
        Request::Read(first, count) => {
            let range = ByteRange::new(first * SECTOR, count * SECTOR);
            disk.read(range).await.map(|bytes| in_digits(&bytes))
        }
        Request::Write(first, count, byte) => {
            let data = vec![byte; (count * SECTOR) as usize].into();
            disk.write(first * SECTOR, data, false).await.map(|()| "ok".into())
        }
        Request::Flush => disk.flush().await.map(|()| "ok".into()),
    };
    done.unwrap_or_else(|error| error.errno_name().into())
}

pub fn in_digits(bytes: &[u8]) -> String {
    let digit = |sector: &[u8]| match sector.iter().all(|byte| *byte == sector[0]) {
        true => char::from(b'0' + sector[0] % 10),
        false => 'x',
    };
    bytes.chunks(SECTOR as usize).map(digit).collect()
}

/// One task that makes these requests one after another; what came of each goes to `seen`.
pub fn in_turn(requests: &[Request], seen: &Arc<Quiet<Vec<String>>>) -> Small {
    let (requests, seen) = (requests.to_vec(), seen.clone());
    program(move |runtime: &Runtime, board: Arc<Board>| {
        seen.with(Vec::clear);
        let (requests, seen) = (requests.clone(), seen.clone());
        task(runtime, "t", async move {
            for request in requests {
                let said = ask(&board.disks[0], request).await;
                seen.with(|seen| seen.push(said));
            }
        });
    })
}

/// Every outcome of these requests, a line each; `check` looks at each end.
pub fn outcomes(
    requests: &[Request],
    budgets: Budgets,
    check: impl Fn(&Board, &str) -> Result<(), String> + 'static,
) -> BTreeSet<String> {
    let seen: Arc<Quiet<Vec<String>>> = Arc::default();
    let all: Rc<Quiet<BTreeSet<String>>> = Rc::default();
    let (now, kept) = (seen.clone(), all.clone());
    let program = in_turn(requests, &seen).checked(move |board| {
        let line = now.with(|seen| seen.join(" "));
        kept.with(|all| all.insert(line.clone()));
        check(board, &line)
    });
    let exploration = explore_all(&program, budgets);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true }, "{requests:?} {budgets:?}");
    all.with(std::mem::take)
}

pub fn explore_all(program: &dyn blockyard_sim::Program, budgets: Budgets) -> Exploration {
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(program, setup(budgets), Limits::default(), &mut go_on);
    explorer.depth_first(Reduction::Optimal)
}
