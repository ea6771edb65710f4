"""Guards of projects, their documents and the documents' bytes."""

from tests.isolation.mutations.model import Change, Mutation, replace

_HERE = "services/projects"
_TESTS = "tests/services/projects"
_ISOLATION = f"{_TESTS}/test_isolation.py"
_BATCHES = f"{_TESTS}/batches"
_EXPORTS = f"{_TESTS}/exports/test_exports.py"

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
        "projects-tus-project",
        "a resumable upload is found only in its own project",
        replace(
            f"{_HERE}/uploads/repository.py",
            "select(Upload).where(Upload.project_id == project_id, Upload.id == upload_id)",
            "select(Upload).where(Upload.id == upload_id)",
        ),
        [f"{_TESTS}/uploads/test_protocol.py::test_who_may_not_write_learns_and_changes_nothing"],
    ),
    Mutation(
        "projects-tus-scope",
        "a resumable upload is for who may write documents",
        replace(
            f"{_HERE}/uploads/service.py",
            """for who may write documents into its project.\"\"\"\n    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n""",
            """for who may write documents into its project.\"\"\"\n""",
        ),
        [f"{_TESTS}/uploads/test_protocol.py::test_who_may_not_write_learns_and_changes_nothing"],
    ),
    Mutation(
        "projects-tus-end",
        "only who may write to an upload ends the request that does",
        replace(
            f"{_HERE}/uploads/service.py",
            "        await look_at(transactions, principal, project_id=project_id, upload_id=upload_id)\n        await service.turns.end",
            "        await service.turns.end",
        ),
        [f"{_TESTS}/uploads/test_resuming.py::test_nobody_ends_the_request_of_another_tenant"],
    ),
    Mutation(
        "projects-tus-recheck",
        "a role lost while bytes arrive makes no document of them",
        replace(
            f"{_HERE}/uploads/completion.py",
            "        await authorize(session, principal, project_id=upload.project_id, scope=Scope.DOCUMENTS_WRITE)\n",
            "",
        ),
        [f"{_TESTS}/uploads/test_resuming.py::test_a_role_taken_back_ends_an_upload_at_its_last_byte"],
    ),
    Mutation(
        "projects-tus-authority",
        "a credential that has ended makes no document of what it has sent",
        replace(
            f"{_HERE}/uploads/completion.py",
            "        principal = await service.authority.now(principal)\n",
            "",
        ),
        [f"{_TESTS}/uploads/test_resuming.py::test_bytes_are_refused_once_the_right_to_send_them_is_gone"],
    ),
    Mutation(
        "projects-tus-fence",
        "nothing is recorded for a request whose upload was taken over",
        replace(f"{_HERE}/uploads/repository.py", "    if row.writer != upload.writer:\n", "    if False:\n"),
        [f"{_TESTS}/uploads/test_resuming.py"],
    ),
    Mutation(
        "projects-tus-quota",
        "bytes of unfinished uploads count against the tenant's quota",
        replace(
            f"{_HERE}/uploads/service.py",
            "size=upload.reserved, uploads=1)\n        except",
            "uploads=1)\n        except",
        ),
        [f"{_TESTS}/uploads/test_keeping.py::test_there_is_room_for_so_many_bytes_and_uploads"],
    ),
    Mutation(
        "projects-tus-number",
        "a tenant has so many unfinished uploads",
        replace(
            f"{_HERE}/tenants/service.py",
            '    _require_room("uploads", quotas.uploads, usage.uploads, uploads)\n',
            "",
        ),
        [f"{_TESTS}/uploads/test_keeping.py::test_only_so_many_may_be_unfinished"],
    ),
    Mutation(
        "projects-tus-length",
        "an upload has no more bytes than it was to have",
        replace(
            f"{_HERE}/uploads/receiving.py",
            "    if upload.length is not None and size > upload.length:\n",
            "    if False:\n",
        ),
        [f"{_TESTS}/uploads/test_protocol.py::test_a_piece_belongs_at_the_end"],
    ),
    Mutation(
        "projects-blob-tenant",
        "a blob's key begins with its tenant",
        (
            Change(
                f"{_HERE}/blobs/store.py",
                'return f"{self.tenant_id}/{self.project_id}/{self.document_id}/{self.version}"',
                'return f"{self.project_id}/{self.document_id}/{self.version}"',
            ),
        ),
        ["tests/isolation/test_stores.py::test_blobs_of_two_tenants_share_no_place"],
    ),
    Mutation(
        "projects-blob-links",
        "a link in the store is not followed",
        replace(
            f"{_HERE}/blobs/filesystem.py", "os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW", "os.O_RDONLY | os.O_CLOEXEC"
        ),
        [f"{_TESTS}/blobs/test_filesystem.py::test_a_link_in_the_store_is_not_followed"],
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
        replace(f"{_HERE}/blobs/filesystem.py", "each=max(1, threads // 2)", "each=threads"),
        [
            f"{_TESTS}/blobs/test_filesystem.py::test_a_tenant_whose_files_take_long_leaves_half_of_the_threads_to_others"
        ],
    ),
    Mutation(
        "projects-blob-connections",
        "a tenant leaves connections to the document store to others",
        replace(f"{_HERE}/blobs/s3/store.py", "each=max(1, connections // 2)", "each=connections"),
        [f"{_TESTS}/blobs/test_s3.py::test_a_tenant_whose_requests_hang_leaves_half_of_the_connections_to_others"],
    ),
    Mutation(
        "projects-blob-buffers",
        "a tenant leaves memory for uploads to a bucket to others",
        replace(f"{_HERE}/blobs/s3/store.py", "each=max(1, buffers // 2)", "each=buffers"),
        [f"{_TESTS}/blobs/test_s3.py::test_a_tenant_whose_uploads_are_slow_leaves_half_of_the_buffers_to_others"],
    ),
    Mutation(
        "projects-blob-address",
        "an address of content is of use for a minute",
        replace(f"{_HERE}/blobs/s3/store.py", "ExpiresIn=ADDRESS_SECONDS", "ExpiresIn=7 * 86_400"),
        [f"{_TESTS}/blobs/test_s3.py::test_an_address_gives_the_bytes_under_their_name"],
    ),
    Mutation(
        "projects-blob-address-attachment",
        "content that a bucket sends is an attachment too",
        replace(f"{_HERE}/blobs/s3/store.py", '            "ResponseContentDisposition": disposition,\n', ""),
        [f"{_TESTS}/blobs/test_s3.py::test_an_address_gives_the_bytes_under_their_name"],
    ),
    Mutation(
        "projects-export-project",
        "exporting a project requires the right to administer it",
        replace(
            f"{_HERE}/exports/service.py",
            "            await locked(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)\n"
            "        for scope in (Scope.PROJECTS_WRITE, Scope.DOCUMENTS_READ):\n",
            "            await locked(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)\n"
            "        for scope in (Scope.DOCUMENTS_READ,):\n",
        ),
        [f"{_EXPORTS}::test_who_may_not_export_is_refused"],
    ),
    Mutation(
        "projects-export-tenant",
        "exporting a tenant requires the right to administer it",
        replace(f"{_HERE}/exports/service.py", "        principal.require(Scope.TENANT_ADMIN)\n", ""),
        [f"{_EXPORTS}::test_who_may_not_export_is_refused"],
    ),
    Mutation(
        "projects-export-read",
        "a credential that reads no documents exports no project",
        replace(
            f"{_HERE}/exports/service.py",
            "        for scope in (Scope.PROJECTS_WRITE, Scope.DOCUMENTS_READ):\n",
            "        for scope in (Scope.PROJECTS_WRITE,):\n",
        ),
        [f"{_EXPORTS}::test_who_may_not_export_is_refused"],
    ),
    Mutation(
        "projects-export-read-tenant",
        "a credential that reads no documents does not export the tenant",
        replace(f"{_HERE}/exports/service.py", "        principal.require(Scope.DOCUMENTS_READ)\n", ""),
        [f"{_EXPORTS}::test_who_may_not_export_is_refused"],
    ),
    Mutation(
        "projects-export-again",
        "who has lost the right to an export can neither see nor download it",
        replace(
            f"{_HERE}/exports/service.py",
            "        await _authorize(session, principal, export.project_id)\n",
            "        pass\n",
        ),
        [f"{_EXPORTS}::test_who_has_lost_the_project_cannot_download"],
    ),
    Mutation(
        "projects-export-hidden",
        "an export does not exist for who may not have it",
        replace(f"{_HERE}/exports/service.py", "        raise NotFound from error\n", "        raise\n"),
        [f"{_EXPORTS}::test_exports_are_for_who_may_administer_and_read_all_of_it"],
    ),
    Mutation(
        "projects-export-watch",
        "a long download of an export ends with the right to it",
        replace(
            f"{_HERE}/exports/service.py",
            "    blob.watched_by(lambda chunks: while_allowed(chunks, check))\n    return export, blob",
            "    return export, blob",
        ),
        [f"{_EXPORTS}::test_a_long_download_ends_with_the_right_to_it"],
    ),
    Mutation(
        "projects-export-list-tied",
        "a credential limited to one project lists exports of no other",
        replace(
            f"{_HERE}/exports/service.py",
            "        only_project=principal.project_id,\n",
            "        only_project=None,\n",
        ),
        [f"{_EXPORTS}::test_exports_are_for_who_may_administer_and_read_all_of_it"],
    ),
    Mutation(
        "projects-export-list-owner",
        "members list exports only of projects they own",
        replace(f"{_HERE}/exports/repository.py", '            ProjectMember.role == "owner",\n', ""),
        [f"{_EXPORTS}::test_exports_are_for_who_may_administer_and_read_all_of_it"],
    ),
    Mutation(
        "projects-export-list-tenant",
        "only owners and admins of the tenant list its exports",
        replace(f"{_HERE}/exports/service.py", "    of_tenant = principal.is_tenant_admin and ", "    of_tenant = "),
        [f"{_EXPORTS}::test_exports_are_for_who_may_administer_and_read_all_of_it"],
    ),
    Mutation(
        "projects-export-scope",
        "an export has each document in its own project",
        replace(
            f"{_HERE}/exports/repository.py",
            "    statement = _documents(export).where(Document.project_id == project_id)\n",
            "    statement = _documents(export)\n",
        ),
        [f"{_EXPORTS}::test_an_export_of_the_tenant_has_all_its_projects"],
    ),
    Mutation(
        "projects-export-only-project",
        "an export of a project has no other project",
        replace(
            f"{_HERE}/exports/repository.py",
            "        statement = statement.where(Project.id == export.project_id)\n",
            "        pass\n",
        ),
        [f"{_EXPORTS}::test_exports_of_one_project_have_no_other"],
    ),
    Mutation(
        "projects-export-quota",
        "a tenant has only so many exports, and makes only so many at a time",
        replace(f"{_HERE}/exports/service.py", "        if used >= limit:\n", "        if False:\n"),
        [f"{_EXPORTS}::test_so_many_exports_of_a_tenant"],
    ),
    Mutation(
        "projects-export-project-deleted",
        "the exports of a project end with it",
        replace(
            f"{_HERE}/projects/service.py",
            "    await repository.end_exports(session, project_id=project.id)\n",
            "",
        ),
        [f"{_TESTS}/exports/test_making.py::test_a_deleted_export_is_gone_with_its_bytes"],
    ),
    Mutation(
        "projects-export-tenant-deleted",
        "an export ends with its tenant",
        replace(
            f"{_HERE}/tenants/repository.py",
            "        delete(Export).where(Export.id.in_(select(Export.id).limit(count))).returning(Export.id),\n",
            "",
        ),
        [f"{_TESTS}/exports/test_making.py::test_exports_end_with_their_tenant"],
    ),
    Mutation(
        "projects-export-expired",
        "an export that has expired is gone, whether or not it was removed yet",
        replace(
            f"{_HERE}/exports/repository.py",
            '_SHOWN: Final = and_(Export.status != "deleted", or_(Export.expires_at.is_(None), Export.expires_at > func.now()))',
            '_SHOWN: Final = Export.status != "deleted"',
        ),
        [f"{_TESTS}/exports/test_making.py::test_an_export_expires"],
    ),
    Mutation(
        "projects-export-names",
        "no name of a document leads out of an archive",
        replace(f"{_HERE}/exports/archive.py", '_UNSAFE.sub("_", name)', "name"),
        [f"{_TESTS}/exports/test_names.py::test_a_name_is_one_that_every_file_system_takes"],
    ),
    Mutation(
        "projects-batch-read",
        "a batch is shown only to who may read the project's documents",
        replace(
            f"{_HERE}/batches/service.py",
            "    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)\n    return await _found",
            "    return await _found",
        ),
        [f"{_ISOLATION}::test_another_tenant_and_a_stranger_get_the_answer_for_what_does_not_exist"],
    ),
    Mutation(
        "projects-batch-close",
        "only who may write documents closes a batch",
        replace(
            f"{_HERE}/batches/service.py",
            "    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n    await _found",
            "    await _found",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-batch-create",
        "only who may write documents begins a batch",
        replace(
            f"{_HERE}/batches/service.py",
            "    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n    # Requests",
            "    # Requests",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-batch-list",
        "batches are listed only for who may read the project's documents",
        replace(
            f"{_HERE}/batches/service.py",
            "    await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)\n    rows",
            "    rows",
        ),
        [f"{_ISOLATION}::test_another_tenant_and_a_stranger_get_the_answer_for_what_does_not_exist"],
    ),
    Mutation(
        "projects-batch-project",
        "a batch is found only in its own project",
        replace(
            f"{_HERE}/batches/repository.py",
            "select(Batch).where(Batch.project_id == project_id, Batch.id == batch_id)",
            "select(Batch).where(Batch.id == batch_id)",
        ),
        [f"{_BATCHES}/test_batches.py::test_batches_are_found_in_their_own_project_only"],
    ),
    Mutation(
        "projects-batch-list-project",
        "a list contains batches of one project only",
        replace(
            f"{_HERE}/batches/repository.py",
            "    statement = select(Batch).where(Batch.project_id == project_id)\n",
            "    statement = select(Batch)\n",
        ),
        [f"{_BATCHES}/test_batches.py::test_batches_are_found_in_their_own_project_only"],
    ),
    Mutation(
        "projects-batch-closed",
        "a batch that is closed meanwhile takes no document",
        replace(
            f"{_HERE}/batches/counting.py",
            "        if joined and batch.closed_at is not None:\n",
            "        if False:\n",
        ),
        [f"{_BATCHES}/test_batches.py::test_a_batch_that_is_closed_during_an_upload_refuses_it"],
    ),
    Mutation(
        "projects-batch-quota",
        "a tenant has only so many open batches",
        replace(f"{_HERE}/batches/service.py", "    if used >= quotas.open_batches:\n", "    if False:\n"),
        [f"{_BATCHES}/test_batches.py::test_so_many_open_batches_of_a_tenant"],
    ),
    Mutation(
        "projects-bulk-write",
        "acting on many documents requires the right to write them",
        replace(
            f"{_HERE}/documents/bulk.py",
            "            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n            documents",
            "            documents",
        ),
        [f"{_BATCHES}/test_bulk.py::test_a_role_lost_meanwhile_ends_the_action"],
    ),
    Mutation(
        "projects-bulk-early",
        "documents are looked at only for who may write them",
        replace(
            f"{_HERE}/documents/bulk.py",
            "        await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)\n        looked_at",
            "        looked_at",
        ),
        [f"{_ISOLATION}::test_a_viewer_changes_nothing"],
    ),
    Mutation(
        "projects-bulk-project",
        "documents of one project only are acted on",
        replace(
            f"{_HERE}/documents/repository.py",
            "    statement = select(Document.created_at, Document.id, wanted).where(\n"
            "        Document.project_id == project_id, Document.deleted_at.is_(None)\n    )\n",
            "    statement = select(Document.created_at, Document.id, wanted).where(Document.deleted_at.is_(None))\n",
        ),
        [f"{_BATCHES}/test_bulk.py::test_only_documents_of_the_project_are_looked_at"],
    ),
    Mutation(
        "projects-bulk-limit",
        "one request acts on so many documents at most",
        replace(f"{_HERE}/documents/bulk.py", "found[:limit]", "found"),
        [f"{_BATCHES}/test_bulk.py::test_a_request_acts_on_so_many_and_says_where_to_go_on"],
    ),
)
