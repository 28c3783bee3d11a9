#!/usr/bin/env bash
# A real Slurm of two nodes on this machine, to try a plan on. As root, with Debian's packages slurm-wlm and munge:
#   two_nodes.sh start DIR      starts munged, slurmctld and two slurmd on 127.0.0.1; jobs find it by SLURM_CONF=DIR/slurm.conf
#   two_nodes.sh kill DIR 2     ends node 2 as a failing machine would: SIGKILL to its slurmd and to its jobs
#   two_nodes.sh restart DIR    kills the controller and starts it again
#   two_nodes.sh stop DIR       ends what start started
# Partition `urgent` preempts `main`. There is no accounting: squeue and scontrol work, sacct does not.
set -eu
verb=$1 dir=$(realpath -m "$2") host=$(hostname)
export SLURM_CONF=$dir/slurm.conf
case $verb in
start)
  mkdir -p "$dir"/{state,spool,run,log} /run/munge; chown munge /run/munge
  munge -n >/dev/null 2>&1 || { runuser -u munge -- /usr/sbin/munged --force; sleep 1; pgrep -nx munged >"$dir/run/munged.pid"; }
  cat >"$SLURM_CONF" <<C
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((20000 + $$ % 5000))
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/%n.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MailProg=/bin/true
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=60
JobRequeue=1
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((25000 + $$ % 5000))-$((25001 + $$ % 5000))] CPUs=1 RealMemory=4000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=2
C
  slurmctld; sleep 1; slurmd -N n1; slurmd -N n2
  for _ in $(seq 60); do [ "$(sinfo -h -p main -t idle -o %D)" = 2 ] && exit 0; sleep 0.5; done
  echo "the nodes did not come up; see $dir/log" >&2; exit 1 ;;
restart)
  sleep 6  # it saves its jobs every five seconds; killed before, it gives their numbers to others, and drains the nodes
  kill -9 "$(cat "$dir/run/slurmctld.pid")"; sleep "${3:-5}"; slurmctld ;;
kill)
  kill -9 "$(cat "$dir/run/n$3.pid")"
  mine=$(grep -lsz "^SLURMD_NODENAME=n$3\$" /proc/[0-9]*/environ | xargs -r grep -lsz "^SLURM_CONF=$SLURM_CONF\$" | tr -dc '0-9\n')
  for p in $mine; do  # first what would report to the controller
    parent=$(ps -o ppid= -p "$p" | tr -d ' ')
    [ "$(ps -o comm= -p "${parent:-0}" | cut -c1-10)" = slurmstepd ] && kill -9 "$parent" || true
  done
  kill -9 $mine || true ;;
stop)
  scancel -u "$(id -un)" 2>/dev/null || true
  for p in n1 n2 slurmctld munged; do [ -e "$dir/run/$p.pid" ] && kill "$(cat "$dir/run/$p.pid")" 2>/dev/null || true; done ;;
*) echo "usage: two_nodes.sh start|kill|restart|stop DIR [NODE]" >&2; exit 2 ;;
esac
