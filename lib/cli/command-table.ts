import type { CommandGroup } from "./command-group.js";
import type { LocalCommands } from "./local-commands.js";

/** All commands under the names that call them. Each is loaded by its own import. */
export function commandTable(local: LocalCommands): CommandGroup {
  return {
    description: "Keeps a ready-to-start copy of a virtual machine on another host.",
    commands: {
      host: hostGroup(local),
      peer: PEER,
      pki: pkiGroup(local),
      vm: VM,
      point: POINT,
      group: GROUP,
      plan: PLAN,
      disk: diskGroup(local),
      bitmap: BITMAP,
      backup: BACKUP,
      track: async () => (await import("./commands/track.js")).trackCommand(local),
      attach: async () => (await import("./commands/attach.js")).attachCommand(local),
      detach: async () => (await import("./commands/detach.js")).detachCommand(local),
      demo: async () => (await import("./commands/demo.js")).demoCommand(local),
    },
  };
}

function hostGroup(local: LocalCommands): CommandGroup {
  return {
    description: "this host's service",
    commands: {
      init: async () => (await import("./commands/host-init.js")).hostInitCommand(local),
      start: async () => (await import("./commands/host-start.js")).hostStartCommand(local),
      status: async () => (await import("./commands/host-status.js")).hostStatusCommand(),
      "accept-replicas": async () =>
        (await import("./commands/host-accept-replicas.js")).hostAcceptReplicasCommand(),
      maintenance: async () =>
        (await import("./commands/host-maintenance.js")).hostMaintenanceCommand(),
      monitoring: async () =>
        (await import("./commands/host-monitoring.js")).hostMonitoringCommand(),
      "export-configuration": async () =>
        (await import("./commands/host-configuration.js")).exportConfigurationCommand(),
      "import-configuration": async () =>
        (await import("./commands/host-configuration.js")).importConfigurationCommand(),
      "test-failovers": async () =>
        (await import("./commands/host-test-failovers.js")).hostTestFailoversCommand(),
      transfers: async () => (await import("./commands/host-transfers.js")).hostTransfersCommand(),
    },
  };
}

const PEER: CommandGroup = {
  description: "other hosts",
  commands: {
    test: async () => (await import("./commands/peer-test.js")).peerTestCommand(),
  },
};

function pkiGroup(local: LocalCommands): CommandGroup {
  return {
    description: "certificates",
    commands: {
      init: async () => (await import("./commands/pki-init.js")).pkiInitCommand(local),
      issue: async () => (await import("./commands/pki-issue.js")).pkiIssueCommand(local),
    },
  };
}

const VM_DISK: CommandGroup = {
  description: "a VM's disks that come, go, or are left out",
  commands: {
    add: async () => (await import("./commands/vm-disk-add.js")).vmDiskAddCommand(),
    remove: async () => (await import("./commands/vm-disk-remove.js")).vmDiskRemoveCommand(),
    exclude: async () =>
      (await import("./commands/vm-disk-exclusion.js")).vmDiskExclusionCommand("exclude"),
    include: async () =>
      (await import("./commands/vm-disk-exclusion.js")).vmDiskExclusionCommand("include"),
  },
};

const INITIAL_REPLICATION: CommandGroup = {
  description: "the first copy of a VM; vm suspend and vm resume pause it",
  commands: {
    start: async () => (await import("./commands/vm-initial.js")).initialStartCommand(),
    cancel: async () => (await import("./commands/vm-initial.js")).initialCancelCommand(),
  },
};

const VM: CommandGroup = {
  description: "replicated VMs",
  commands: {
    enable: async () => (await import("./commands/vm-enable.js")).vmEnableCommand(),
    disk: VM_DISK,
    status: async () => (await import("./commands/vm-status.js")).vmStatusCommand(),
    statistics: async () => (await import("./commands/vm-statistics.js")).vmStatisticsCommand(),
    points: async () => (await import("./commands/vm-points.js")).vmPointsCommand(),
    retention: async () => (await import("./commands/vm-retention.js")).vmRetentionCommand(),
    "export-initial": async () =>
      (await import("./commands/vm-export-initial.js")).vmExportInitialCommand(),
    "import-initial": async () =>
      (await import("./commands/vm-import-initial.js")).vmImportInitialCommand(),
    seed: async () => (await import("./commands/vm-seed.js")).vmSeedCommand(),
    "test-failover": async () =>
      (await import("./commands/vm-test-failover.js")).vmTestFailoverCommand(),
    "test-failovers": async () =>
      (await import("./commands/vm-test-failovers.js")).vmTestFailoversCommand(),
    "planned-failover": async () =>
      (await import("./commands/vm-planned-failover.js")).vmPlannedFailoverCommand(),
    failover: async () =>
      (await import("./commands/vm-unplanned-failover.js")).vmUnplannedFailoverCommand(),
    reverse: async () => (await import("./commands/vm-reverse.js")).vmReverseCommand(),
    "add-target": async () => (await import("./commands/vm-add-target.js")).vmAddTargetCommand(),
    extend: async () => (await import("./commands/vm-extend.js")).vmExtendCommand(),
    "commit-failover": async () =>
      (await import("./commands/vm-commit-failover.js")).vmCommitFailoverCommand(),
    "cancel-failover": async () =>
      (await import("./commands/vm-cancel-failover.js")).vmCancelFailoverCommand(),
    open: async () => (await import("./commands/vm-open.js")).vmOpenCommand(),
    close: async () => (await import("./commands/vm-close.js")).vmCloseCommand(),
    export: async () => (await import("./commands/vm-export.js")).vmExportCommand(),
    diff: async () => (await import("./commands/vm-diff.js")).vmDiffCommand(),
    verify: async () => (await import("./commands/vm-verify.js")).vmVerifyCommand(),
    compare: async () => (await import("./commands/vm-compare.js")).vmCompareCommand(),
    attach: async () => (await import("./commands/vm-attach.js")).vmAttachCommand(),
    detach: async () => (await import("./commands/vm-detach.js")).vmDetachCommand(),
    group: async () => (await import("./commands/vm-group.js")).vmGroupCommand(),
    set: async () => (await import("./commands/vm-set.js")).vmSetCommand(),
    "initial-replication": INITIAL_REPLICATION,
    resync: async () => (await import("./commands/vm-resync.js")).vmResyncCommand(),
    suspend: async () => (await import("./commands/vm-control.js")).vmControlCommand("suspend"),
    resume: async () => (await import("./commands/vm-control.js")).vmControlCommand("resume"),
    remove: async () => (await import("./commands/vm-remove.js")).vmRemoveCommand(),
    "delete-replica": async () =>
      (await import("./commands/vm-delete-replica.js")).vmDeleteReplicaCommand(),
  },
};

const POINT: CommandGroup = {
  description: "a VM's recovery points, one at a time (on the replica)",
  commands: {
    label: async () => (await import("./commands/point-label.js")).pointLabelCommand(),
    pin: async () => (await import("./commands/point-pin.js")).pointPinCommand("pin"),
    unpin: async () => (await import("./commands/point-pin.js")).pointPinCommand("unpin"),
    delete: async () => (await import("./commands/point-delete.js")).pointDeleteCommand(),
  },
};

const GROUP: CommandGroup = {
  description: "consistency groups of VMs",
  commands: {
    list: async () => (await import("./commands/group.js")).groupListCommand(),
    points: async () => (await import("./commands/group.js")).groupPointsCommand(),
    "test-failover": async () =>
      (await import("./commands/group-test-failover.js")).groupTestFailoverCommand(),
    "test-failovers": async () =>
      (await import("./commands/group-test-failover.js")).groupTestFailoversCommand(),
    close: async () => (await import("./commands/vm-close.js")).groupCloseCommand(),
    "planned-failover": async () =>
      (await import("./commands/group-planned-failover.js")).groupPlannedFailoverCommand(),
    failover: async () => (await import("./commands/group-failover.js")).groupFailoverCommand(),
    "commit-failover": async () =>
      (await import("./commands/group-commit-failover.js")).groupCommitFailoverCommand(),
    "cancel-failover": async () =>
      (await import("./commands/group-cancel-failover.js")).groupCancelFailoverCommand(),
  },
};

const PLAN: CommandGroup = {
  description: "recovery plans: failovers of many VMs in order, with scripts (on the replica)",
  commands: {
    add: async () => (await import("./commands/plan-add.js")).planAddCommand(),
    list: async () => (await import("./commands/plan.js")).planListCommand(),
    show: async () => (await import("./commands/plan.js")).planShowCommand(),
    remove: async () => (await import("./commands/plan.js")).planRemoveCommand(),
    run: async () => (await import("./commands/plan-run.js")).planRunCommand(),
    stop: async () => (await import("./commands/plan.js")).planStopCommand(),
    "end-test": async () => (await import("./commands/plan.js")).planEndTestCommand(),
    runs: async () => (await import("./commands/plan.js")).planRunsCommand(),
    report: async () => (await import("./commands/plan.js")).planReportCommand(),
  },
};

function diskGroup(local: LocalCommands): CommandGroup {
  return {
    description: "disks: those of replicated VMs, and files",
    commands: {
      resize: async () => (await import("./commands/disk-resize.js")).diskResizeCommand(),
      "export-state": async () =>
        (await import("./commands/disk-state.js")).exportStateCommand(local),
      "import-state": async () =>
        (await import("./commands/disk-state.js")).importStateCommand(local),
      "take-back-state": async () =>
        (await import("./commands/disk-state.js")).takeBackStateCommand(local),
      "show-state": async () => (await import("./commands/disk-state.js")).showStateCommand(local),
    },
  };
}

const BITMAP: CommandGroup = {
  description: "bitmaps for backup tools: what changed since their last backup",
  commands: {
    add: async () => (await import("./commands/bitmap.js")).bitmapAddCommand(),
    list: async () => (await import("./commands/bitmap.js")).bitmapListCommand(),
    remove: async () => (await import("./commands/bitmap.js")).bitmapRemoveCommand(),
  },
};

const BACKUP: CommandGroup = {
  description: "disks frozen at one instant, for a backup tool to read over NBD",
  commands: {
    begin: async () => (await import("./commands/backup.js")).backupBeginCommand(),
    commit: async () => (await import("./commands/backup.js")).backupEndCommand("commit"),
    abandon: async () => (await import("./commands/backup.js")).backupEndCommand("abandon"),
  },
};
