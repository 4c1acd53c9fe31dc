"""Writes an OCI runtime configuration: oci.py SPEC PROFILE ROOT root|user [NAME=VALUE...] -- command...

SPEC is what `crun spec` printed, PROFILE the seccomp profile of containers/common, which Docker and
podman share the origin of. What a default container lacks of its capabilities is taken out, the profile's
conditions are resolved for those, and io_uring is denied with EPERM, as Docker's profile has it. "user" is an ordinary
user with no-new-privileges and no capabilities.
"""
import json
import sys

CAPS = ["CAP_" + cap for cap in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE").split()]
IO_URING = ["io_uring_setup", "io_uring_enter", "io_uring_register"]


def applies(rule, caps):
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and not {"amd64", "x32"} & set(includes["arches"]):
        return False
    if includes.get("caps") and not set(caps) & set(includes["caps"]):
        return False
    return not (excludes.get("caps") and set(caps) & set(excludes["caps"]))


def seccomp(profile, caps):
    rules = []
    for rule in profile["syscalls"]:
        names = [name for name in rule["names"] if name not in IO_URING]
        if names and applies(rule, caps):
            kept = {"names": names, "action": rule["action"]}
            for key in ("args", "errnoRet"):
                if rule.get(key) is not None:
                    kept[key] = rule[key]
            rules.append(kept)
    rules.append({"names": IO_URING, "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }


def main(spec, profile, root, who, *rest):
    split = rest.index("--")
    env, command = list(rest[:split]), list(rest[split + 1:])
    with open(spec, encoding="ascii") as f:
        config = json.load(f)
    with open(profile, encoding="ascii") as f:
        profile = json.load(f)
    ordinary = who == "user"
    process = config["process"]
    process["terminal"] = False
    process["args"] = command
    process["cwd"] = "/home" if ordinary else "/root"
    process["env"] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + process["cwd"],
                      *env]
    process["user"] = {"uid": 1000, "gid": 1000} if ordinary else {"uid": 0, "gid": 0}
    process["noNewPrivileges"] = ordinary
    for kind in process["capabilities"]:
        process["capabilities"][kind] = [] if ordinary or kind in ("ambient", "inheritable") else CAPS
    config["root"] = {"path": root, "readonly": False}
    # The steps of a recipe fetch packages: they share the host's network, as a build does.
    config["linux"]["namespaces"] = [ns for ns in config["linux"]["namespaces"] if ns["type"] not in ("network", "cgroup")]
    config["linux"]["seccomp"] = seccomp(profile, CAPS if not ordinary else [])
    json.dump(config, sys.stdout, indent=1)


main(*sys.argv[1:])
