"""What can go wrong, and what the person who meets it can do.

    LatentgaugeError
    ├── Misuse                        exit 2: the call was wrong
    │   ├── UnknownOption                 unknown_option
    │   ├── InvalidOption                 invalid_option
    │   ├── InvalidGate                   invalid_gate
    │   ├── InvalidRequest                invalid_request
    │   ├── NotFound                      not_found
    │   ├── NotFinished                   not_finished
    │   ├── ForeignOrigin                 foreign_origin
    │   └── MissingExtra                  missing_extra
    ├── InputFault                    exit 4: the encoder or the data is at fault
    │   ├── DigestMismatch                digest_mismatch
    │   ├── UploadIncomplete              upload_incomplete
    │   ├── TooLarge                      too_large
    │   ├── UnreadableEncoder             unreadable_encoder
    │   ├── UnsupportedEncoder            unsupported_encoder
    │   ├── NotAPosterior                 not_a_posterior
    │   ├── WrongOutput                   wrong_output
    │   ├── NonFiniteOutput               non_finite_output
    │   ├── NotDeterministic              not_deterministic
    │   ├── RowsNotIndependent            rows_not_independent
    │   ├── DevicePinned                  device_pinned
    │   ├── BatchPinned                   batch_pinned
    │   ├── ShapeMismatch                 shape_mismatch
    │   ├── UnreadableDataset             unreadable_dataset
    │   ├── NonFiniteInput                non_finite_input
    │   ├── OutOfMemory                   out_of_memory
    │   ├── TimeLimit                     time_limit
    │   ├── EncoderCrashed                encoder_crashed
    │   └── OutputLimit                   output_limit
    └── NoAnswer                      exit 5: nobody knows yet
        ├── ServiceUnavailable            service_unavailable
        ├── DeadlinePassed                deadline_passed
        ├── DeviceUnavailable             device_unavailable
        ├── StorageFull                   storage_full
        ├── WorkerLost                    worker_lost
        ├── Canceled                      canceled
        └── InternalError                 internal_error

Exceptions know no HTTP: `app/problems.py` maps each code to a status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar


class LatentgaugeError(Exception):
    """Carries `code`, the process's exit status, and four sentences for a person."""

    code: ClassVar[str]
    exit_status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, expected: str = "", got: str = "", remedy: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.detail]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.got:
            parts.append(f"got: {self.got}")
        if self.remedy:
            parts.append(f"what to do: {self.remedy}")
        return "; ".join(parts)

    def problem(self) -> dict[str, str]:
        """The error as the members `code` .. `remedy` of an RFC 9457 problem object."""
        return {
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "expected": self.expected,
            "got": self.got,
            "remedy": self.remedy,
        }


class Misuse(LatentgaugeError):
    exit_status = 2


class InputFault(LatentgaugeError):
    exit_status = 4


class NoAnswer(LatentgaugeError):
    exit_status = 5


class UnknownOption(Misuse):
    code, title = "unknown_option", "An option that does not exist"


class InvalidOption(Misuse):
    code, title = "invalid_option", "An option with a value that it cannot have"


class InvalidGate(Misuse):
    code, title = "invalid_gate", "A gate that cannot be evaluated on any report"


class InvalidRequest(Misuse):
    code, title = "invalid_request", "A request that cannot be understood"


class NotFound(Misuse):
    code, title = "not_found", "Nothing is stored under this address"


class NotFinished(Misuse):
    code, title = "not_finished", "The job has not ended yet"


class ForeignOrigin(Misuse):
    code, title = "foreign_origin", "A request that a foreign web page sent"


class MissingExtra(Misuse):
    code, title = "missing_extra", "A part that is not installed"


class DigestMismatch(InputFault):
    code, title = "digest_mismatch", "Bytes that do not have the digest they were sent under"


class UploadIncomplete(InputFault):
    code, title = "upload_incomplete", "An upload that ended early"


class TooLarge(InputFault):
    code, title = "too_large", "More bytes than this service takes"


class UnreadableEncoder(InputFault):
    code, title = "unreadable_encoder", "A file that is no encoder"


class UnsupportedEncoder(InputFault):
    code, title = "unsupported_encoder", "An encoder of a kind that is not read"


class NotAPosterior(InputFault):
    code, title = "not_a_posterior", "An output that describes no distribution"


class WrongOutput(InputFault):
    code, title = "wrong_output", "Outputs that are no (mu, second) pair of [rows, latents]"


class NonFiniteOutput(InputFault):
    code, title = "non_finite_output", "The encoder put out NaN or infinity"


class NotDeterministic(InputFault):
    code, title = "not_deterministic", "The same rows give different outputs"


class RowsNotIndependent(InputFault):
    code, title = "rows_not_independent", "A row's output depends on its neighbours"


class DevicePinned(InputFault):
    code, title = "device_pinned", "The encoder is bound to a device that is not here"


class BatchPinned(InputFault):
    code, title = "batch_pinned", "The encoder takes batches of one size only"


class ShapeMismatch(InputFault):
    code, title = "shape_mismatch", "Rows that do not fit the encoder"


class UnreadableDataset(InputFault):
    code, title = "unreadable_dataset", "A file that is no data set"


class NonFiniteInput(InputFault):
    code, title = "non_finite_input", "NaN or infinity in the data"


class OutOfMemory(InputFault):
    code, title = "out_of_memory", "More memory than the limit"


class TimeLimit(InputFault):
    code, title = "time_limit", "Longer than the limit"


class EncoderCrashed(InputFault):
    code, title = "encoder_crashed", "The process that read the file died"


class OutputLimit(InputFault):
    code, title = "output_limit", "More output than the limit"


class ServiceUnavailable(NoAnswer):
    code, title = "service_unavailable", "The service cannot be reached or failed"


class DeadlinePassed(NoAnswer):
    code, title = "deadline_passed", "No answer within the time that was given"


class DeviceUnavailable(NoAnswer):
    code, title = "device_unavailable", "No worker with this device has reported"


class StorageFull(NoAnswer):
    code, title = "storage_full", "The service's disk is full"


class WorkerLost(NoAnswer):
    code, title = "worker_lost", "The worker died on every attempt"


class Canceled(NoAnswer):
    code, title = "canceled", "The job was canceled"


class InternalError(NoAnswer):
    code, title = "internal_error", "A fault of latentgauge itself"


def leaves(root: type[LatentgaugeError] = LatentgaugeError) -> Iterator[type[LatentgaugeError]]:
    """Every concrete error, in the order of the tree above."""
    for kind in root.__subclasses__():
        if "code" in vars(kind):
            yield kind
        yield from leaves(kind)


BY_CODE: dict[str, type[LatentgaugeError]] = {kind.code: kind for kind in leaves()}


def from_problem(problem: Mapping[str, object]) -> LatentgaugeError:
    """The exception that a problem object tells of; an unknown code is an `InternalError`."""
    kind = BY_CODE.get(str(problem.get("code", "")), InternalError)
    return kind(
        str(problem.get("detail") or problem.get("title") or "no detail was given"),
        expected=str(problem.get("expected") or ""),
        got=str(problem.get("got") or ""),
        remedy=str(problem.get("remedy") or ""),
    )
