"""Guards of the process that reads documents."""

from tests.isolation.mutations.model import Mutation, replace

_HERE = "services/indexing/pipeline"
_CONFINE = f"{_HERE}/confinement/__init__.py"
_SECCOMP = f"{_HERE}/confinement/seccomp.py"
_PRIVILEGES = f"{_HERE}/confinement/privileges.py"
_TESTS = "tests/services/indexing/pipeline/test_confinement.py"
_HOSTILE = f"{_TESTS}::test_hostile_code_in_a_documents_process_reaches_nothing"
_LAYERS = f"{_TESTS}::test_a_layer_refuses_what_it_is_for_without_the_others"

MUTATIONS = (
    Mutation(
        "confinement-descriptors",
        "a document's process has one descriptor",
        replace(_CONFINE, "    kernel.close_all_but(answers)\n", ""),
        [_HOSTILE],
    ),
    Mutation(
        "confinement-seccomp",
        "a document's process can make only the system calls on an allowlist",
        replace(_CONFINE, "        seccomp.install()\n", "        pass\n"),
        [_HOSTILE],
    ),
    Mutation(
        "confinement-executable",
        "no memory of a document's process becomes executable",
        replace(_SECCOMP, "_PROT_EXEC: Final = 4", "_PROT_EXEC: Final = 0"),
        [_HOSTILE],
    ),
    Mutation(
        "confinement-signals",
        "a document's process can signal only itself",
        replace(_SECCOMP, "_instruction(_EQUAL, process, matched=1)", "_instruction(_AT_LEAST, 0, matched=1)"),
        [_LAYERS],
    ),
    Mutation(
        "confinement-x32",
        "a call by the numbers of another ABI ends the process",
        replace(_SECCOMP, "_X32: Final = 0x40000000", "_X32: Final = 0xFFFFFFFF"),
        [f"{_TESTS}::test_a_call_in_another_numbering_ends_the_process"],
    ),
    Mutation(
        "confinement-landlock",
        "Landlock alone refuses files, TCP, abstract sockets, tracing and signals",
        replace(
            f"{_HERE}/confinement/landlock.py",
            "        kernel.system_call(kernel.LANDLOCK_RESTRICT_SELF, descriptor, 0)\n",
            "        pass\n",
        ),
        [_LAYERS],
    ),
    Mutation(
        "confinement-network",
        "a document's process has its own network namespace, sufficient by itself",
        replace(_PRIVILEGES, "_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC", "_CLONE_NEWNS | _CLONE_NEWIPC"),
        [_LAYERS],
    ),
    Mutation(
        "confinement-files",
        "a document's process has an empty file system, sufficient by itself",
        replace(_PRIVILEGES, "    _empty_file_system(machine)\n    return", "    return"),
        [_LAYERS],
    ),
    Mutation(
        "confinement-user",
        "when started as root, a document's process runs as a user who owns nothing",
        replace(_PRIVILEGES, "    os.setresuid(user, user, user)\n", ""),
        [f"{_TESTS}::test_as_root_a_document_is_read_as_nobody_who_owns_anything"],
    ),
    Mutation(
        "confinement-required",
        "no document is read if the kernel offers less confinement than required",
        replace(
            f"{_HERE}/extraction_processes.py",
            "            if self._required and not process.confinement.is_sufficient:",
            "            if False:",
        ),
        [f"{_TESTS}::test_a_setting_decides_about_a_kernel_that_gives_less"],
    ),
)
