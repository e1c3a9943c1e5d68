"""From a float bundle to one with int8 graphs: record, gather, choose, try, correct, write."""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, replace
from typing import Any

from calibration.choose.recipe import Recipe
from calibration.errors import ChoiceError
from calibration.lanes import lanes_for
from calibration.observe.observer import multiplications_of
from calibration.observe.step_statistics import MovementReport, report_movement
from calibration.passes.gathering import Findings, gather, quantizable_layers
from calibration.passes.inputs import Inputs
from calibration.passes.recipes import Corrections, Scales, biases_of, densities_of_inputs, recipe_of, scales_for
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import Quantization
from deploy.engine.graphs import EngineChoice
from deploy.errors import BundleError
from deploy.int8.memory import bytes_for_covariances, calibrated_layers, refuse_too_little
from deploy.int8.recording.partial_results import alone_in, bytes_in, folder_for, what_is_recorded
from deploy.int8.recording.pictures import CalibrationPicture, calibration_pictures
from deploy.int8.recording.trajectories import (
    CalibrationPlans,
    Trajectories,
    calibration_plans,
    groups_of_generation,
    groups_of_pictures,
)
from deploy.int8.settings import Places, QuantizeSettings
from deploy.int8.stages import Stages
from deploy.int8.storing.storing import TargetGraphs, calibrated_graph, graphs_of_target
from deploy.int8.telling.records import hash_of_record, record_of_decoder, record_of_scales
from deploy.int8.trying.budget import Choice
from deploy.int8.trying.correcting import bias_corrections, noise_corrections
from deploy.int8.trying.decoder import Decoder, quantized_decoder
from deploy.int8.trying.drafts import Draft, NoiseCorrections, drafted, written_targets
from deploy.int8.trying.foreign_scales import amax_for, with_checkpoint_scales
from deploy.int8.trying.trials import Trials
from deploy.packaged.places import CALIBRATION_IMAGES
from deploy.picture.memory import text_from_bytes
from deploy.picture.session import Session
from deploy.picture.upscaler import Upscaler
from deploy.sampling.fitted import without_fits_to_int8
from engines.progress import Progress, Say

GENERATED = 8
"""Pictures that a generation model is calibrated on unless told otherwise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """The results of a calibration, for the report and the table: what it found, and what it chose."""

    bundle: Bundle
    plans: CalibrationPlans
    pictures: tuple[CalibrationPicture, ...]
    findings: Findings
    movement: MovementReport
    scales: dict[str, Scales]
    choices: dict[str, Choice]
    recipes: dict[str, Recipe]
    record: dict[str, Any]
    multiplications: dict[str, float]
    """Of every convolution and linear layer of the denoiser, those that always stay in float included."""
    decoder: Decoder
    """Of the latent family; empty for IDM."""


def refuse_unfit(bundle: Bundle, *, force: bool) -> None:
    """Only a bundle with a float denoiser can be quantized, and one that is already only with `force`."""
    if "denoise" not in bundle.manifest.graphs:
        raise BundleError(
            f"{bundle.path} has no float denoiser to quantize, only int8 graphs. Export the checkpoint again."
        )
    if bundle.manifest.quantization is not None and not force:
        raise BundleError(f"{bundle.path} is quantized already. Use --force to calibrate it again.")


def quantize_bundle(
    bundle: Bundle, settings: QuantizeSettings, places: Places, *, force: bool = False, say: Say, progress: Progress
) -> Calibrated:
    """The bundle, updated in place, with int8 graphs for the targets asked for."""
    refuse_unfit(bundle, force=force)
    manifest, gone = without_fits_to_int8(bundle.manifest)
    if gone:
        # At once: all that follows opens the bundle as it lies there.
        with BundleWriter.update(bundle) as writer:
            bundle = writer.commit(manifest)
        say(
            f"{', '.join(gone)}: fitted to the int8 graphs that are replaced, and taken out with them; presets take "
            "ddim until `idm-deploy schedule --fit` has fitted them again"
        )
    with Session(bundle, EngineChoice(threads=lanes_for(places.threads).threads)) as session:
        plans = calibration_plans(session)
        if settings.ranges is not None and settings.ranges > len(plans.levels):
            raise ChoiceError(
                f"quantizing {bundle.path}: {settings.ranges} ranges were asked for, but the plan has"
                f" {len(plans.levels)} steps; choose at most as many."
            )
        work = _Work(session, plans, settings, places, say, progress)
        return work.run()


@dataclass
class _Work:
    """A calibration at work: what it was asked for, and what its parts hand to one another."""

    session: Session
    plans: CalibrationPlans
    settings: QuantizeSettings
    places: Places
    say: Say
    progress: InitVar[Progress]

    def __post_init__(self, progress: Progress) -> None:
        """Refuses what can be refused before anything is computed."""
        say, settings, places, session = self.say, self.settings, self.places, self.session
        self.bundle = session.bundle
        self._stage = Stages(progress)
        self.graph = calibrated_graph(self.bundle, "denoise")
        self.amax = amax_for(self.bundle, settings, quantizable_layers(self.graph), say)
        self.memory = bytes_for_covariances(places.max_memory)
        if settings.rounding == "second-order":
            refuse_too_little(calibrated_layers(self.bundle), self.memory)
        self.pictures = self._pictures()
        model = session.model
        if model.generates:
            groups = groups_of_generation(model, settings.pictures or GENERATED)
        else:
            groups = groups_of_pictures(self.pictures)
        self.folder = folder_for(what_is_recorded(self.bundle, groups, self.plans, settings.seed), places.cache)
        self.trajectories = Trajectories(session, groups, self.plans, self.folder, settings.seed)
        recorded = self.trajectories
        self.inputs = Inputs(recorded.inputs, recorded.few, recorded.count, self.plans.levels)

    def run(self) -> Calibrated:
        """The whole calibration, while no other works on the same partial results."""
        with alone_in(self.folder, self.say):
            return self._run()

    def _run(self) -> Calibrated:
        findings = self._findings()
        movement = report_movement({name: findings.inputs.of_tensor(name) for name in findings.inputs.names})
        self.say(
            "activations: the largest value of a layer's input, over part of the pictures at each noise level, changes"
            f" {movement.median_ratio:.2f}-fold from one level to another in the median,"
            f" {movement.largest_ratio:.2f}-fold at most ({movement.tensors[0].name})"
        )
        scales = self._scales(findings)
        corrections = self._corrections(findings, scales)
        biases = biases_of(self.graph, findings)
        multiplications = multiplications_of(
            self.graph, {name: array.shape for name, array in self.trajectories.example().items()}
        )
        with drafted(self.bundle, self.folder, self.plans.levels) as draft:
            decoder = self._decoder(draft)
            trials = Trials(
                draft=draft,
                upscaler=Upscaler.of_session(self.session),
                plans=self.plans,
                settings=self.settings,
                pictures=self.pictures,
                findings=findings,
                biases=biases,
                inputs=self.inputs,
                multiplications=multiplications,
                threads=self.places.threads,
                progress=self._stage("trying"),
            )
            choices = {t: trials.choose(t, scales[t], corrections.get(t)) for t in self.settings.targets}
            recipes = {
                t: recipe_of(findings, scales[t], biases, in_float=choices[t].in_float, corrections=corrections.get(t))
                for t in self.settings.targets
            }
            graphs = [graphs_of_target(self.bundle, t, recipes[t], scales[t].ranges.edges) for t in recipes]
            fitted = self._noise_corrections(draft, graphs)
        record = record_of_scales(self.settings, self.plans, scales, recipes, fitted)
        if decoder:
            record["decoder"] = record_of_decoder(decoder)
        quantized = self._write(graphs, fitted, decoder, record)
        self.say(
            f"partial results stay in {self.folder} ({text_from_bytes(bytes_in(self.folder))}) for another calibration"
            " of this bundle on these pictures; delete them when there will be none"
        )
        return Calibrated(
            bundle=quantized,
            plans=self.plans,
            pictures=tuple(self.pictures),
            findings=findings,
            movement=movement,
            scales=scales,
            choices=choices,
            recipes=recipes,
            record=record,
            multiplications=multiplications,
            decoder=decoder,
        )

    def _pictures(self) -> list[CalibrationPicture]:
        model = self.session.model
        if model.generates:
            return []
        if self.places.calibration is None:
            self.say(
                "calibrating on the packaged photographs: whether they are like those of the training cannot be known;"
                " --calib names others"
            )
        folder = self.places.calibration or CALIBRATION_IMAGES
        return calibration_pictures(folder, self.settings, self.say, model.usual_lr)

    def _findings(self) -> Findings:
        self.trajectories.record(lanes_for(self.places.threads), self._stage("trajectories"))
        return gather(
            self.graph,
            quantizable_layers(self.graph),
            self.inputs,
            self.trajectories.example(),
            self.folder,
            memory_bytes=self.memory,
            second_order=self.settings.rounding == "second-order",
            equalise=self.settings.equalise and not self.amax,  # scales of others are those of inputs as they are
            threads=self.places.threads,
            progress=self._stage("gathering"),
        )

    def _scales(self, findings: Findings) -> dict[str, Scales]:
        densities = densities_of_inputs(findings)
        layers = [finding.layer for finding in findings.layers.values()]
        by_form: dict[Any, Scales] = {}
        scales_of_target = {}
        for target in self.settings.targets:
            form = target_named(target).codes
            if form not in by_form:
                scales = scales_for(
                    form,
                    densities,
                    self.plans.levels,
                    self.settings.method,
                    self.settings.range_count,
                    self.places.threads,
                    self._stage("scales"),
                )
                by_form[form] = with_checkpoint_scales(scales, layers, self.amax)
            scales_of_target[target] = by_form[form]
        return scales_of_target

    def _corrections(self, findings: Findings, scales: dict[str, Scales]) -> dict[str, Corrections]:
        if not self.settings.correct_bias:
            return {}
        different = list({id(of_target): of_target for of_target in scales.values()}.values())
        corrections = bias_corrections(
            self.graph,
            findings,
            different,
            self.inputs,
            self.trajectories.example(),
            threads=self.places.threads,
            progress=self._stage("means"),
        )
        return {t: corrections[[id(d) for d in different].index(id(of_target))] for t, of_target in scales.items()}

    def _decoder(self, draft: Draft) -> Decoder:
        return quantized_decoder(
            self.session.model,
            draft,
            [latent for _, latent in self.trajectories.finals()],
            self.settings,
            memory_bytes=self.memory,
            threads=self.places.threads,
            say=self.say,
            progress=self._stage("decoder"),
        )

    def _noise_corrections(self, draft: Draft, made: Sequence[TargetGraphs]) -> NoiseCorrections:
        if not self.settings.correct_noise:
            return {}
        tried = draft.tried(made)
        return noise_corrections(
            tried,
            [graphs.target for graphs in made],
            self.inputs,
            self.plans.levels,
            threads=self.places.threads,
            progress=self._stage("correcting"),
        )

    def _write(
        self,
        graphs: Sequence[TargetGraphs],
        corrections: NoiseCorrections,
        decoder: Decoder,
        record: dict[str, Any],
    ) -> Bundle:
        decoders = {target: parts.graphs for target, parts in decoder.items()}
        with BundleWriter.update(self.bundle) as writer:
            quantization = Quantization(
                targets=written_targets(writer, self.bundle, graphs, corrections, decoders),
                noise_levels=self.plans.levels,
                settings=self.settings.as_dict(),
                calibration_sha256=hash_of_record(record),
                equations=tuple(sorted({plan.settings.equation for plan in self.plans.plans})),
            )
            names = {picture.original.name: picture.sha256 for picture in self.pictures}
            return writer.commit(replace(self.bundle.manifest, quantization=quantization, calibration_images=names))
