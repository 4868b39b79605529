//! `blockdev-create`: makes a file, a qcow2 or LUKS image in a node, or a dedup image in two, as a job of the type
//! `create`.
//!
//! Source: QEMU's QMP reference, BlockdevCreateOptions, with its defaults. Differs: a node is named, not defined in
//! place; `nocow`, other drivers and other types of encryption are not there. QEMU has no dedup. What is wrong with
//! options that are asked for together fails the job, as it does in QEMU.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use blockyard_block::{Backend, BlockError, Preallocation, Truncate, Write, WriteFlags};
use blockyard_drivers::dedup::{self, Dedup, DedupHeader};
use blockyard_graph::Permissions;
use blockyard_jobs::{JobOptions, check_job_id, run_once};
use blockyard_qcow2::{Compression, CreateOptions, DataFile, Files, ImageFile, create};
use blockyard_runtime::{BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::door;
use blockyard_units::{ByteLen, ByteRange};
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Size, VisitError, take, visit};

mod luks;

pub(crate) use self::luks::Luks;
use self::luks::{Encrypt, LuksOptions};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevCreate {
    job_id: String,
    options: Dict,
}

/// What is to be made.
enum Wanted {
    Dedup(DedupOptions),
    File(FileOptions),
    Luks(Box<LuksOptions>),
    Qcow2(Box<Qcow2Options>),
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DedupOptions {
    metadata: String,
    data: String,
    size: Size,
    cluster_size: Option<Size>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileOptions {
    filename: String,
    size: Size,
    preallocation: Option<PreallocMode>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Qcow2Options {
    file: String,
    data_file: Option<String>,
    data_file_raw: Option<bool>,
    extended_l2: Option<bool>,
    size: Size,
    version: Option<Version>,
    backing_file: Option<String>,
    backing_fmt: Option<String>,
    encrypt: Option<Encrypt>,
    cluster_size: Option<Size>,
    preallocation: Option<PreallocMode>,
    lazy_refcounts: Option<bool>,
    refcount_bits: Option<u32>,
    compression_type: Option<CompressionType>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PreallocMode {
    Off,
    Metadata,
    Falloc,
    Full,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Version {
    V2,
    V3,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompressionType {
    Zlib,
    Zstd,
}

fn preallocation(mode: Option<PreallocMode>) -> Preallocation {
    match mode {
        None | Some(PreallocMode::Off) => Preallocation::Off,
        Some(PreallocMode::Metadata) => Preallocation::Metadata,
        Some(PreallocMode::Falloc) => Preallocation::Falloc,
        Some(PreallocMode::Full) => Preallocation::Full,
    }
}

impl BlockdevCreate {
    pub fn check(self, mode: Mode) -> Result<(), QmpError> {
        check_job_id(&self.job_id)?;
        self.wanted(mode).map(drop)
    }

    fn wanted(self, mode: Mode) -> Result<Wanted, QmpError> {
        let within = |error: VisitError| error.within("options");
        let mut options = self.options;
        let driver = take::<String>(&mut options, "driver", mode).map_err(within)?;
        if driver == "luks" {
            let options = LuksOptions::parse(options, mode).map_err(within)?;
            return Ok(Wanted::Luks(Box::new(options)));
        }
        let value = Value::Dict(options);
        Ok(match driver.as_str() {
            "dedup" => Wanted::Dedup(visit(&value, mode).map_err(within)?),
            "file" => Wanted::File(visit(&value, mode).map_err(within)?),
            "qcow2" => Wanted::Qcow2(Box::new(visit(&value, mode).map_err(within)?)),
            other => {
                let said = format!(
                    "options.driver: '{other}' makes nothing; dedup, file, luks and qcow2 do"
                );
                return Err(QmpError::generic(said));
            }
        })
    }
}

impl Monitor {
    pub(crate) fn blockdev_create(
        &self,
        arguments: BlockdevCreate,
        mode: Mode,
    ) -> Result<(), QmpError> {
        let name = arguments.job_id.clone();
        let wanted = arguments.wanted(mode)?;
        let (monitor, job) = (self.clone(), name.clone());
        let work = Box::pin(async move {
            let made = match &wanted {
                Wanted::Dedup(options) => monitor.create_dedup(&job, options).await,
                Wanted::File(options) => monitor.create_file(options).await,
                Wanted::Luks(options) => monitor.create_luks(&job, options).await,
                Wanted::Qcow2(options) => monitor.create_qcow2(&job, options).await,
            };
            made.map_err(|error| BlockError::Invalid(error.desc))
        });
        let options = JobOptions { name, auto_finalize: true, auto_dismiss: false, speed: 0 };
        Ok(run_once(self.layer(), self.jobs(), options, "create", work)?)
    }

    async fn create_file(&self, options: &FileOptions) -> Result<(), QmpError> {
        let how = preallocation(options.preallocation);
        if how == Preallocation::Metadata {
            let said = "preallocation: a file has no structures; give off, falloc or full";
            return Err(QmpError::generic(said));
        }
        let file = self.files().create(&options.filename).map_err(QmpError::generic)?;
        let failed = |kind| QmpError::generic(format!("{}: {kind}", options.filename));
        if file.len().0 > 0 {
            file.truncate(ByteLen(0), false).await.map_err(failed)?;
        }
        let truncate = Truncate { len: ByteLen(options.size.0), preallocation: how };
        truncate.on(&*file).await.map_err(failed)?;
        file.flush().await.map_err(failed)
    }

    async fn create_dedup(&self, job: &str, options: &DedupOptions) -> Result<(), QmpError> {
        let cluster = options.cluster_size.map_or(Dedup::CLUSTER, |size| size.0);
        let header = DedupHeader::new(cluster, options.size.0).map_err(QmpError::generic)?;
        let metadata = self.writable(&format!("{job}.metadata"), &options.metadata).await?;
        let data = self.writable(&format!("{job}.data"), &options.data).await;
        let done = match &data {
            Ok(data) => {
                let failed =
                    |kind| QmpError::generic(format!("node '{}': {kind}", options.metadata));
                dedup::create(header, &metadata, data).await.map_err(failed)
            }
            Err(error) => Err(error.clone()),
        };
        let mut released = self.release(metadata).await;
        if let Ok(data) = data {
            released = released.and(self.release(data).await);
        }
        done.and(released)
    }

    async fn create_qcow2(&self, job: &str, options: &Qcow2Options) -> Result<(), QmpError> {
        let made = self.qcow2_options(options).await?;
        let file = self.writable(&format!("{job}.file"), &options.file).await?;
        let data = match &options.data_file {
            Some(node) => self.writable(&format!("{job}.data-file"), node).await.map(Some),
            None => Ok(None),
        };
        let done = match &data {
            Ok(data) => create_in(&file, data.as_ref(), &made).await,
            Err(error) => Err(error.clone()),
        };
        let mut released = self.release(file).await;
        if let Ok(Some(data)) = data {
            released = released.and(self.release(data).await);
        }
        done.and(released)
    }

    /// What the options come to.
    async fn qcow2_options(&self, options: &Qcow2Options) -> Result<CreateOptions, QmpError> {
        let default = CreateOptions::new(options.size.0);
        let raw = options.data_file_raw.unwrap_or(false);
        let data_file = match &options.data_file {
            None if raw => return Err(QmpError::generic("data-file-raw needs a data-file")),
            None => None,
            Some(node) => Some(DataFile { name: self.filename_of_node(node)?, raw }),
        };
        let backing = options.backing_file.clone();
        if backing.is_none() && options.backing_fmt.is_some() {
            return Err(QmpError::generic("backing-fmt needs a backing-file"));
        }
        let encrypt = options.encrypt.as_ref();
        Ok(CreateOptions {
            version: if let Some(Version::V2) = options.version { 2 } else { 3 },
            cluster_size: options.cluster_size.map_or(default.cluster_size, |size| size.0),
            refcount_bits: options.refcount_bits.unwrap_or(default.refcount_bits),
            extended_l2: options.extended_l2.unwrap_or(false),
            lazy_refcounts: options.lazy_refcounts.unwrap_or(false),
            compression: match options.compression_type {
                Some(CompressionType::Zstd) => Compression::Zstd,
                Some(CompressionType::Zlib) | None => Compression::Zlib,
            },
            backing: backing.map(|name| (name, options.backing_fmt.clone())),
            data_file,
            luks: match encrypt {
                Some(encrypt) => {
                    let header = self.luks_header(encrypt).await;
                    Some(header.map_err(|error| error.within("encrypt"))?)
                }
                None => None,
            },
            preallocation: preallocation(options.preallocation),
            design: self.layer().design(),
            ..default
        })
    }

    fn filename_of_node(&self, name: &str) -> Result<String, QmpError> {
        let node = self.layer().node(name)?.id();
        let named = self.driver_options(node).and_then(|options| options.get("filename").cloned());
        let said = || format!("data-file: node '{name}' has no filename that could be kept");
        named.ok_or_else(|| QmpError::generic(said()))
    }

    /// A node, to be written and given another length.
    async fn writable(&self, holder: &str, node: &str) -> Result<NodeStorage, QmpError> {
        let child = self.layer().node(node)?.id();
        let backend = self.layer().add_backend(holder)?;
        let read = Permissions::CONSISTENT_READ;
        let required = read.union(Permissions::WRITE).union(Permissions::RESIZE);
        // Nobody else writes what is made anew.
        let given = self.give_root(&backend, child, required, read).await;
        if given.is_err() {
            self.layer().remove_backend(&backend);
        }
        given?;
        Ok(NodeStorage { backend: backend.of_no_guest(), node: node.into() })
    }

    async fn release(&self, storage: NodeStorage) -> Result<(), QmpError> {
        self.take_root(&storage.backend).await?;
        self.layer().remove_backend(&storage.backend);
        Ok(())
    }
}

async fn create_in(
    file: &NodeStorage,
    data: Option<&NodeStorage>,
    options: &CreateOptions,
) -> Result<(), QmpError> {
    let said = |error| QmpError::generic(format!("{error}"));
    // Refused before anything is lost.
    blockyard_qcow2::layout(options).map_err(said)?;
    let failed = |kind| QmpError::generic(format!("node '{}': {kind}", file.node));
    file.truncate(ByteLen(0), false).await.map_err(failed)?;
    let mut files = Files::of_disk(file);
    if let Some(data) = data {
        files.data = ImageFile::Disk(data);
    }
    create(&files, options).await.map_err(said)
}

/// Others go on between the pieces of a long computation.
fn pause() -> BoxFuture<'static, ()> {
    Box::pin(door::boundary())
}

/// A node as a disk, for who makes an image in it.
struct NodeStorage {
    backend: Backend,
    node: String,
}

impl NodeStorage {
    fn send(&self, write: Write) -> BoxFuture<'static, Io<()>> {
        let backend = self.backend.clone();
        Box::pin(async move { backend.write(write).await.map_err(|error| kind_of(&error)) })
    }
}

fn kind_of(error: &BlockError) -> IoErrorKind {
    match error {
        BlockError::Io { kind, .. } => *kind,
        _ => IoErrorKind::Io,
    }
}

impl Storage for NodeStorage {
    fn name(&self) -> &str {
        &self.node
    }

    fn len(&self) -> ByteLen {
        self.backend.len().unwrap_or_default()
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        let backend = self.backend.clone();
        Box::pin(async move { backend.read(range).await.map_err(|error| kind_of(&error)) })
    }

    fn write(&self, offset: u64, data: IoBuffer, _fua: bool) -> BoxFuture<'static, Io<()>> {
        self.send(Write::data(offset, data))
    }

    fn write_zeroes(&self, range: ByteRange, may_unmap: bool) -> BoxFuture<'static, Io<()>> {
        let flags = WriteFlags { may_unmap, ..WriteFlags::default() };
        self.send(Write { flags, ..Write::zeroes(range) })
    }

    fn truncate(&self, len: ByteLen, reserve: bool) -> BoxFuture<'static, Io<()>> {
        let preallocation = if reserve { Preallocation::Falloc } else { Preallocation::Off };
        self.send(Write::truncate(Truncate { len, preallocation }))
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        let backend = self.backend.clone();
        Box::pin(async move { backend.flush().await.map_err(|error| kind_of(&error)) })
    }
}
