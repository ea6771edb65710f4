"""Guards of projects, their documents and the documents' bytes."""

from tests.isolation.mutations.model import Change, Mutation, replace

_HERE = "services/projects"
_TESTS = "tests/services/projects"
_ISOLATION = f"{_TESTS}/test_isolation.py"

MUTATIONS = (
    Mutation(
        "projects-authorize",
        "every operation in a project requires a role there",
        replace(
            f"{_HERE}/projects/service.py",
            "    principal.require_in_project(scope, project_id, found.role)\n",
            "",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-authorize-locked",
        "every change of a project requires a role there",
        replace(
            f"{_HERE}/projects/service.py",
            "    project, role = found\n    principal.require_in_project(scope, project_id, role)\n    return project, _shown(role)",
            "    project, role = found\n    return project, _shown(role)",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-read",
        "reading a project requires a role in it",
        replace(
            f"{_HERE}/projects/service.py",
            "    principal.require_in_project(Scope.PROJECTS_READ, project_id, row.role)\n",
            "",
        ),
        [f"{_ISOLATION}::test_another_tenant_and_a_stranger_get_the_answer_for_what_does_not_exist"],
    ),
    Mutation(
        "projects-list",
        "members see only the projects they have a role in",
        replace(f"{_HERE}/projects/service.py", "only_members=not principal.is_tenant_admin", "only_members=False"),
        [f"{_TESTS}/projects/test_projects.py::test_members_see_the_projects_they_have_a_role_in"],
    ),
    Mutation(
        "projects-list-tied",
        "a credential limited to one project lists only that one",
        replace(f"{_HERE}/projects/service.py", "only_project=principal.project_id", "only_project=None"),
        [f"{_TESTS}/projects/test_projects.py::test_a_credential_tied_to_a_project_sees_only_that_one"],
    ),
    Mutation(
        "projects-create",
        "only owners and administrators of the tenant can create projects",
        replace(f"{_HERE}/projects/service.py", "    principal.require(Scope.PROJECTS_WRITE)\n", ""),
        [f"{_TESTS}/projects/test_projects.py::test_only_tenant_admins_create_projects"],
    ),
    Mutation(
        "projects-role-user",
        "the role that counts is the caller's own",
        replace(
            f"{_HERE}/projects/repository.py",
            '    & (ProjectMember.user_id == bindparam("user_id", type_=Uuid()))\n',
            "",
        ),
        [f"{_ISOLATION}::test_another_tenant_and_a_stranger_get_the_answer_for_what_does_not_exist"],
    ),
    Mutation(
        "projects-upload-authority",
        "an upload does not outlive its authority",
        replace(f"{_HERE}/documents/receiving.py", "        principal = await authority.now(principal)\n", ""),
        [f"{_TESTS}/documents/test_authority.py::test_an_upload_does_not_outlive_its_authority"],
    ),
    Mutation(
        "projects-tenant-tombstone",
        "nothing is created for a deleted tenant",
        replace(f"{_HERE}/tenants/repository.py", "    .where(TenantUsage.deleted_at.is_(None))\n", ""),
        [f"{_TESTS}/test_quotas.py::test_nothing_is_made_for_a_deleted_tenant"],
    ),
    Mutation(
        "projects-quota",
        "a tenant cannot exceed its quotas",
        replace(f"{_HERE}/tenants/service.py", "    if taken > 0 and used > limit:\n", "    if False:\n"),
        [f"{_TESTS}/test_quotas.py::test_bytes_keep_to_the_quota"],
    ),
    Mutation(
        "projects-role-membership",
        "a role of an earlier membership of the tenant does not count",
        replace(
            f"{_HERE}/projects/repository.py",
            '    & (ProjectMember.membership_number == bindparam("membership_number", type_=BigInteger()))\n',
            "",
        ),
        [f"{_TESTS}/projects/test_members.py::test_a_role_does_not_come_back_with_its_holder"],
    ),
    Mutation(
        "projects-members-of-the-tenant",
        "only members of the tenant become members of its projects",
        replace(f"{_HERE}/projects/members.py", "    if user_id not in numbers:\n", "    if False:\n"),
        [f"{_TESTS}/projects/test_members.py::test_only_members_of_the_tenant_become_members"],
    ),
    Mutation(
        "projects-document-project",
        "a document is found only in its own project",
        replace(
            f"{_HERE}/documents/repository.py",
            '    Document.project_id == bindparam("project_id"),\n    Document.id ==',
            "    Document.id ==",
        ),
        [f"{_ISOLATION}::test_a_document_is_found_only_in_its_own_project"],
    ),
    Mutation(
        "projects-document-deleted",
        "a deleted document is gone",
        replace(
            f"{_HERE}/documents/repository.py",
            '    Document.id == bindparam("document_id"),\n    Document.deleted_at.is_(None),\n',
            '    Document.id == bindparam("document_id"),\n',
        ),
        [f"{_TESTS}/documents/test_documents.py::test_a_deleted_document_is_gone_at_once_and_its_bytes_soon"],
    ),
    Mutation(
        "projects-list-project",
        "a list contains documents of one project only",
        replace(
            f"{_HERE}/documents/repository.py",
            '"""Documents of a project, newest first."""\n    statement = select(Document).where('
            "Document.project_id == project_id, Document.deleted_at.is_(None))",
            '"""Documents of a project, newest first."""\n    statement = select(Document).where('
            "Document.deleted_at.is_(None))",
        ),
        ["tests/services/projects/test_guards.py::test_lists_and_duplicates_stay_within_a_project"],
    ),
    Mutation(
        "projects-duplicates",
        "duplicate content is looked up within one project",
        replace(
            f"{_HERE}/documents/repository.py",
            '        Document.project_id == bindparam("project_id", type_=Uuid()),\n        Document.sha256 ==',
            "        Document.sha256 ==",
        ),
        ["tests/services/projects/test_guards.py::test_lists_and_duplicates_stay_within_a_project"],
    ),
    Mutation(
        "projects-lock-tenant",
        "uploads of the same content wait for each other within one tenant",
        replace(
            f"{_HERE}/documents/repository.py",
            '"what": f"{tenant_of(session)}/{project_id}/{sha256}"',
            '"what": f"{project_id}/{sha256}"',
        ),
        ["tests/isolation/test_sql.py::test_locks_of_the_application_name_the_tenant"],
    ),
    Mutation(
        "projects-lock-name-tenant",
        "uploads that replace the document of a name wait for each other within one tenant",
        replace(
            f"{_HERE}/documents/repository.py",
            '"what": f"{tenant_of(session)}/{project_id}/name/{name}"',
            '"what": f"{project_id}/name/{name}"',
        ),
        ["tests/isolation/test_sql.py::test_locks_of_the_application_name_the_tenant"],
    ),
    Mutation(
        "projects-name",
        "the document that a name stands for is looked up within one project",
        replace(
            f"{_HERE}/documents/repository.py",
            "        Document.project_id == project_id, Document.name == name, Document.deleted_at.is_(None)\n",
            "        Document.name == name, Document.deleted_at.is_(None)\n",
        ),
        ["tests/services/projects/test_guards.py::test_versions_and_links_stay_within_a_project"],
    ),
    Mutation(
        "projects-version-write",
        "a new version requires the right to write documents",
        replace(
            f"{_HERE}/documents/service.py",
            """which may change it.\"\"\"\n    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n""",
            """which may change it.\"\"\"\n""",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-version-early",
        "a new version is refused before its bytes arrive",
        replace(
            f"{_HERE}/versions/service.py",
            "        await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n",
            "",
        ),
        [f"{_TESTS}/versions/test_versions.py::test_a_version_that_is_not_allowed_is_refused_before_its_bytes"],
    ),
    Mutation(
        "projects-version-document",
        "a version is found only in its own document",
        replace(
            f"{_HERE}/versions/repository.py",
            "        select(DocumentVersion).where(DocumentVersion.document_id == document_id, DocumentVersion.number == number)",
            "        select(DocumentVersion).where(DocumentVersion.number == number)",
        ),
        [f"{_TESTS}/versions/test_versions.py::test_versions_are_those_of_one_document"],
    ),
    Mutation(
        "projects-version-list",
        "a list contains versions of one document only",
        replace(
            f"{_HERE}/versions/repository.py",
            "        DocumentVersion.document_id == document_id, DocumentVersion.number < before\n",
            "        DocumentVersion.number < before\n",
        ),
        [f"{_TESTS}/versions/test_versions.py::test_versions_are_those_of_one_document"],
    ),
    Mutation(
        "projects-version-delete",
        "a document's deletion removes versions of no other",
        replace(
            f"{_HERE}/versions/repository.py",
            "        .where(DocumentVersion.document_id == document_id)\n",
            "",
        ),
        [f"{_TESTS}/versions/test_versions.py::test_versions_are_those_of_one_document"],
    ),
    Mutation(
        "projects-most-versions",
        "a document has so many versions at most",
        replace(f"{_HERE}/documents/storing.py", "    if document.version >= MOST_VERSIONS:\n", "    if False:\n"),
        [f"{_TESTS}/versions/test_versions.py::test_a_document_has_so_many_versions"],
    ),
    Mutation(
        "projects-most-links",
        "a document has so many links at most",
        replace(f"{_HERE}/documents/repository.py", '    bindparam("most_links", type_=Integer()) > _LINKS,\n', ""),
        [f"{_TESTS}/documents/test_duplicates.py::test_a_document_has_so_many_links"],
    ),
    Mutation(
        "projects-blob-shared",
        "bytes that a version refers to are not removed",
        replace(f"{_HERE}/documents/cleaning.py", "    if not needed:\n", "    if True:\n"),
        [f"{_TESTS}/documents/test_duplicates.py::test_links_outlive_what_they_are_linked_to"],
    ),
    Mutation(
        "projects-upload-recheck",
        "a role lost while bytes arrive ends the upload",
        replace(
            f"{_HERE}/documents/receiving.py",
            "            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n            stored =",
            "            stored =",
        ),
        [f"{_TESTS}/documents/test_upload.py::test_a_role_lost_while_bytes_arrive_ends_the_upload"],
    ),
    Mutation(
        "projects-blob-tenant",
        "a blob's key begins with its tenant",
        (
            Change(
                f"{_HERE}/blobs.py",
                'return f"{self.tenant_id}/{self.project_id}/{self.document_id}/{self.version}"',
                'return f"{self.project_id}/{self.document_id}/{self.version}"',
            ),
        ),
        ["tests/isolation/test_stores.py::test_blobs_of_two_tenants_share_no_place"],
    ),
    Mutation(
        "projects-blob-links",
        "a link in the store is not followed",
        replace(f"{_HERE}/blobs.py", "os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW", "os.O_RDONLY | os.O_CLOEXEC"),
        [f"{_TESTS}/test_blobs.py::test_a_link_in_the_store_is_not_followed"],
    ),
    Mutation(
        "projects-attachment",
        "uploaded content is never rendered by browsers on our origin",
        replace(
            f"{_HERE}/documents/content_disposition.py",
            """return f"attachment; filename=""",
            """return f"inline; filename=""",
        ),
        [f"{_TESTS}/documents/test_content.py::test_the_whole_content_comes_as_a_safe_attachment"],
    ),
    Mutation(
        "projects-type",
        "content types that browsers execute are not sent",
        replace(
            f"{_HERE}/documents/content.py", "return declared if declared in _INERT_TYPES", "return declared if True"
        ),
        [f"{_TESTS}/documents/test_content.py::test_a_type_that_browsers_run_is_not_named"],
    ),
    Mutation(
        "projects-last-owner",
        "a project never loses its last owner",
        replace(
            f"{_HERE}/projects/members.py",
            '    if member.role != "owner" or not _counts(member, numbers):\n',
            "    if True:\n",
        ),
        [f"{_TESTS}/projects/test_members.py"],
    ),
    Mutation(
        "projects-status-version",
        "an event about another version or a deleted document is dropped",
        replace(f"{_HERE}/documents/job_events.py", "document.version != event.version or ", ""),
        [f"{_TESTS}/documents/test_status.py::test_news_of_another_version_or_project_is_dropped"],
    ),
    Mutation(
        "projects-blob-threads",
        "a tenant leaves threads of the document store to others",
        replace(f"{_HERE}/blobs.py", "each=max(1, threads // 2)", "each=threads"),
        [f"{_TESTS}/test_blobs.py::test_a_tenant_whose_files_take_long_leaves_half_of_the_threads_to_others"],
    ),
)
