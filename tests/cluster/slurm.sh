#!/usr/bin/env bash
# A SLURM of one node for tests: no munge, no database, no systemd. Needs root, and slurm-wlm of Debian or Ubuntu.
#
#     tests/cluster/slurm.sh install      apt-get install slurm-wlm, where there is apt and no SLURM
#     tests/cluster/slurm.sh start [DIR]  start it; DIR keeps its state and logs
#     tests/cluster/slurm.sh stop         stop it and remove its configuration
#
# It has 8 CPUs and 200 GB, whatever the machine has, two GPUs that are none, and kills jobs that use more memory than they asked for.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin
dir=${2:-/var/tmp/retort-slurm}
conf=/etc/slurm
mark='# written by tests/cluster/slurm.sh'

install() {
    command -v slurmctld > /dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        echo "SLURM is not installed: it takes root and apt-get" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends slurm-wlm ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm; }
}


start() {
    if [ -e "$conf/slurm.conf" ] && ! grep -qxF "$mark" "$conf/slurm.conf"; then
        echo "$conf/slurm.conf belongs to another SLURM; it is left alone" >&2
        return 1
    fi
    rm -rf "$dir"
    mkdir -p "$dir"/{state,spool,log} "$conf"
    host=$(hostname -s)
    cat > "$conf/slurm.conf" << CONF
$mark
ClusterName=retort
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000
# more CPUs and memory than the machine may have
SlurmdParameters=config_overrides
# jobs that use more memory than they asked for are killed, without cgroups
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
GresTypes=gpu
MinJobAge=3600
ReturnToService=2
KillWait=2
# a node that does not answer is lost after this many seconds
SlurmdTimeout=6
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=200000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=7-00:00:00 State=UP
CONF
    # any two character devices do as GPUs
    printf '%s\nNodeName=%s Name=gpu File=/dev/null\nNodeName=%s Name=gpu File=/dev/zero\n' "$mark" "$host" "$host" \
        > "$conf/gres.conf"
    slurmctld -c
    slurmd -c
    for _ in $(seq 60); do
        sinfo -h -o %T 2> /dev/null | grep -qx idle && return
        sleep 0.5
    done
    tail -n 20 "$dir"/log/*.log >&2
    return 1
}

stop() {
    grep -qsxF "$mark" "$conf/slurm.conf" || return 0
    for name in Slurmd Slurmctld; do
        file=$(sed -n "s/^${name}PidFile=//p" "$conf/slurm.conf")
        if [ -e "$file" ]; then
            pid=$(cat "$file")
            kill "$pid" 2> /dev/null || true
            for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        fi
    done
    rm -f "$conf/slurm.conf" "$conf/gres.conf"
}

"$1"
