//! What `--help` shows.

use crate::support::{Place, steady};

fn help(args: &[&str]) -> String {
    steady(&Place::new().succeeds(args))
}

#[test]
fn version() {
    insta::assert_snapshot!(help(&["--version"]), @"fewstep VERSION");
}

#[test]
fn program() {
    insta::assert_snapshot!(help(&["--help"]), @r#"
    Turns a pretrained diffusion model into the best few-step sampler for it

    Usage: fewstep [OPTIONS] <COMMAND>

    Commands:
      demo      Show on the built-in model what a fit buys: table, report.html
      fit       Find noise levels for a budget of steps (phase 1) and tune the network for them (phase
                2)
      compare   Compare models, methods and numbers of evaluations: table, csv, json, report.html
      export    Write a plan in the form that another tool takes
      sample    Make images
      eval      Measure images: FID, KID, inception score, precision and recall, ...
      train     Train a denoiser from scratch (the EDM recipe)
      import    Turn a checkpoint of the EDM code, or Inception's weights, into a safetensors file
      denoise   Apply the denoiser to arrays: how to check an import
      info      Say in words what a file is
      ref       Reference statistics of a data set, for eval
      features  Train a small feature network on a data set's labels, for eval
      help      Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as JSON on stdout, for scripts
      -h, --help     Print help
      -V, --version  Print version
    "#);
}

#[test]
fn sample() {
    insta::assert_snapshot!(help(&["sample", "--help"]), @r#"
    Make images

    Usage: fewstep sample [OPTIONS] --out <PATH>

    Options:
          --json           Print the result as JSON on stdout, for scripts
          --model <MODEL>  Model: a file, or the name of the built-in one [default: fashion-mnist]
      -h, --help           Print help
      -V, --version        Print version

    Images:
          --seeds <LIST>    Seeds, one an image: 0-63, or 5,8, or 0-3,10 [default: 0-63]
          --class <N>       Class of every image [default: each image's own, drawn from its seed]
          --latents <FILE>  Start from the array `latents` [N, C, H, W] (unit normal) of this npz file
                            instead of seeds
          --batch <N>       Images at once [default: 64]

    Sampler:
          --plan <FILE>        Plan file, as `fit` leaves it; the options below are for samplers without
                               one
          --steps <N>          Noise levels; a first-order solver makes so many network evaluations
                               [default: 18]
          --solver <NAME>      Solver: euler, heun, dpm2, dpmpp2m, dpmpp3m, unipc3_bh2, ipndm4,
                               deis_tab3, ... [default: heun]
          --schedule <NAME>    Noise levels: karras, log_snr, vp, ve, iddpm, cosine, time_uniform
                               [default: karras]
          --rho <RHO>          Exponent of the karras schedule [default: 7]
          --sigmas <LIST>      Noise levels given one by one, largest first, without the final 0
          --sigma-min <SIGMA>  Lowest noise level [default: 0.002, or the model's own]
          --sigma-max <SIGMA>  Highest noise level [default: 80, or the model's own]
          --no-last-step       Stop at the lowest noise level instead of stepping to 0 (diff-sampler's
                               convention)
          --afs                Replace the first evaluation by the analytical first step

    Output:
          --out <PATH>   Where to: a folder of PNGs named after their seeds, one grid (.png), or arrays
                         (.npz)
          --subdirs      Folder: PNGs in subfolders of 1000
          --columns <N>  Grid: images in a row [default: as many as there are rows]
          --raw          npz: floats as the sampler leaves them, about -1 to 1, instead of pixels
          --overwrite    Replace what --out names
          --resume       Folder: keep the PNGs that an earlier run of the same sampler left and make
                         those that lack

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Examples:
      fewstep sample --out grid.png --steps 8 --solver ipndm4
      fewstep sample --model edm-cifar10.pkl --plan plan.json --seeds 0-49999 --out samples/ --subdirs
    "#);
}

#[test]
fn eval() {
    insta::assert_snapshot!(help(&["eval", "--help"]), @r#"
    Measure images: FID, KID, inception score, precision and recall, ...

    Usage: fewstep eval [OPTIONS] [IMAGES]

    Arguments:
      [IMAGES]  Images: a folder, zip or npz file, or any data set; or let --model make some

    Options:
          --json             Print the result as JSON on stdout, for scripts
          --model <MODEL>    Measure images that this model makes: a file, or the name of the built-in
                             one
          --ref <PATH>       Compare with: statistics (.npz with mu and sigma) or a data set [default:
                             the training images of Fashion-MNIST]
          --pad-to <PIXELS>  Pad the images of data sets on both sides with zeros to squares of this
                             size
          --max-images <N>   Use at most so many of the images
      -h, --help             Print help
      -V, --version          Print version

    Metrics:
          --metrics <LIST>       Any of fid, fid-infinity (extrapolated to infinitely many images), kid,
                                 inception-score, precision-recall, density-coverage, sliced-wasserstein
                                 (on pixels); all come from one pass [default: fid]
          --bootstrap <N>        Standard error of fid from so many resamples of the images [default: 0]
          --kid-subsets <N>      kid: random subsets whose distances are averaged [default: 100]
          --kid-subset-size <N>  kid: images of each side in a subset [default: 1000]
          --splits <N>           inception-score: parts of the images whose scores are averaged
                                 [default: 10]
          --precision-k <K>      precision-recall: neighbours that a ball reaches to [default: 3]
          --density-k <K>        density-coverage: neighbours that a ball reaches to [default: 5]
          --directions <N>       sliced-wasserstein: random directions [default: 1000]
          --metric-seed <SEED>   Seed of everything random in the metrics [default: 0]

    Protocol:
          --protocol <NAME>  edm (50,000 images of uint8, the least FID of seeds 0-49999, 50000-99999
                             and 100000-149999, all three shown), edm-once (seeds 0-49999 only) or
                             pytorch-fid (50,000 images, its resize)
          --reduced <N>      Rehearse the protocol with so many images a range; the result says so
          --ranges <N>       Measure so many equal ranges of the images one by one: their mean and its
                             spread [default: 1]

    Features:
          --features <FILE>        Feature network: a .safetensors file of `fewstep features` or
                                   `fewstep import`, or Inception's .pth file of pytorch-fid or
                                   torch-fidelity [default: the built-in one for Fashion-MNIST]
          --resize <NAME>          How Inception's images are resized: tf1 (EDM, torch-fidelity) or
                                   pytorch-fid [default: tf1]
          --torchscript [<RANGE>]  Run --features as a TorchScript program, only if you trust it, on
                                   pixels of this range [possible values: bytes, unit, signed]
          --return-features        Call the TorchScript program with `return_features`, as NVIDIA's need

    Images:
          --seeds <LIST>    Seeds, one an image: 0-63, or 5,8, or 0-3,10 [default: 0-63]
          --class <N>       Class of every image [default: each image's own, drawn from its seed]
          --latents <FILE>  Start from the array `latents` [N, C, H, W] (unit normal) of this npz file
                            instead of seeds
          --batch <N>       Images at once [default: 64]

    Sampler:
          --plan <FILE>        Plan file, as `fit` leaves it; the options below are for samplers without
                               one
          --steps <N>          Noise levels; a first-order solver makes so many network evaluations
                               [default: 18]
          --solver <NAME>      Solver: euler, heun, dpm2, dpmpp2m, dpmpp3m, unipc3_bh2, ipndm4,
                               deis_tab3, ... [default: heun]
          --schedule <NAME>    Noise levels: karras, log_snr, vp, ve, iddpm, cosine, time_uniform
                               [default: karras]
          --rho <RHO>          Exponent of the karras schedule [default: 7]
          --sigmas <LIST>      Noise levels given one by one, largest first, without the final 0
          --sigma-min <SIGMA>  Lowest noise level [default: 0.002, or the model's own]
          --sigma-max <SIGMA>  Highest noise level [default: 80, or the model's own]
          --no-last-step       Stop at the lowest noise level instead of stepping to 0 (diff-sampler's
                               convention)
          --afs                Replace the first evaluation by the analytical first step

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Examples:
      fewstep eval samples/ --ref cifar10-32x32.npz --features pt_inception-2015-12-05-6726825d.pth
      fewstep eval --model edm.pkl --protocol edm --ref ref.npz --features inception.safetensors
      fewstep eval samples/ --ref cifar10.zip --features inception.safetensors --metrics fid,kid
      fewstep eval --model fashion-mnist --steps 8 --solver ipndm4 --seeds 0-14999 --ranges 3
    "#);
}

#[test]
fn denoise() {
    insta::assert_snapshot!(help(&["denoise", "--help"]), @r#"
    Apply the denoiser to arrays: how to check an import

    Usage: fewstep denoise [OPTIONS] --out <FILE> <FILE>

    Arguments:
      <FILE>  npz file with x [N, C, H, W], sigma [N] and, if the model knows classes, class_labels [N,
              classes]

    Options:
          --json           Print the result as JSON on stdout, for scripts
          --model <MODEL>  Model: a file, or the name of the built-in one [default: fashion-mnist]
          --out <FILE>     Where to: an npz file with the array denoised [N, C, H, W]
          --overwrite      Replace the file if it exists
          --batch <N>      Images at once [default: 64]
      -h, --help           Print help
      -V, --version        Print version

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Example:
      fewstep denoise arrays.npz --model edm-cifar10.pkl --out denoised.npz
    "#);
}

#[test]
fn import() {
    insta::assert_snapshot!(help(&["import", "--help"]), @r#"
    Turn a checkpoint of the EDM code, or Inception's weights, into a safetensors file

    Usage: fewstep import [OPTIONS] <FILE>

    Arguments:
      <FILE>  Snapshot of the EDM code (.pkl), or Inception's weights: .pth of pytorch-fid or
              torch-fidelity, TorchScript .pt, .safetensors; any is read as data, nothing in it is
              executed

    Options:
          --json        Print the result as JSON on stdout, for scripts
          --out <FILE>  Where to [default: beside it, ending in .safetensors]
          --half        Store the weights as f16: half the size
          --overwrite   Replace the file if it exists
      -h, --help        Print help
      -V, --version     Print version

    Examples:
      fewstep import edm-cifar10-32x32-uncond-vp.pkl --out cifar10.safetensors
      fewstep import pt_inception-2015-12-05-6726825d.pth --out inception.safetensors
    "#);
}

#[test]
fn info() {
    insta::assert_snapshot!(help(&["info", "--help"]), @r#"
    Say in words what a file is

    Usage: fewstep info [OPTIONS] <FILE>...

    Arguments:
      <FILE>...  Models, snapshots, plans, run folders, data sets, statistics, arrays, feature networks

    Options:
          --json     Print the result as JSON on stdout, for scripts
      -h, --help     Print help
      -V, --version  Print version

    Example:
      fewstep info edm-cifar10.pkl plan.json runs/fashion/ cifar10.zip
    "#);
}

#[test]
fn reference() {
    insta::assert_snapshot!(help(&["ref", "--help"]), @r#"
    Reference statistics of a data set, for eval

    Usage: fewstep ref [OPTIONS] --data <PATH> --out <FILE>

    Options:
          --json     Print the result as JSON on stdout, for scripts
      -h, --help     Print help
      -V, --version  Print version

    Data:
          --data <PATH>      Data set: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz
                             of images
          --pad-to <PIXELS>  Pad images with zeros to squares of this size (Fashion-MNIST: 32)
          --max-images <N>   Use at most so many images

    Features:
          --features <FILE>        Feature network: a .safetensors file of `fewstep features` or
                                   `fewstep import`, or Inception's .pth file of pytorch-fid or
                                   torch-fidelity [default: the built-in one for Fashion-MNIST]
          --resize <NAME>          How Inception's images are resized: tf1 (EDM, torch-fidelity) or
                                   pytorch-fid [default: tf1]
          --torchscript [<RANGE>]  Run --features as a TorchScript program, only if you trust it, on
                                   pixels of this range [possible values: bytes, unit, signed]
          --return-features        Call the TorchScript program with `return_features`, as NVIDIA's need

    Output:
          --out <FILE>     Where to: an npz file with mu, sigma and what they are of
          --keep-features  Store every image's features as well, for kid, precision-recall and
                           density-coverage (8 KiB an image with Inception)
          --overwrite      Replace the file if it exists

    Compute:
          --batch <N>      Images at once [default: 256]
          --device <NAME>  auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>    Threads for one operation [default: all cores]

    Examples:
      fewstep ref --data cifar10.zip --features inception.safetensors --out cifar10-ref.npz
      fewstep ref --data cifar10.zip --features inception.safetensors --keep-features --out ref.npz
    "#);
}

#[test]
fn features() {
    insta::assert_snapshot!(help(&["features", "--help"]), @r#"
    Train a small feature network on a data set's labels, for eval

    Usage: fewstep features [OPTIONS] --data <PATH> --out <FILE>

    Options:
          --json     Print the result as JSON on stdout, for scripts
      -h, --help     Print help
      -V, --version  Print version

    Data:
          --data <PATH>      Data set: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz
                             of images
          --pad-to <PIXELS>  Pad images with zeros to squares of this size (Fashion-MNIST: 32)
          --max-images <N>   Use at most so many images
          --test <PATH>      Labelled images to test on [default: every tenth image of --data, kept out
                             of the training]

    Output:
          --out <FILE>  Where to: a .safetensors file
          --overwrite   Replace the file if it exists

    Training:
          --epochs <N>          Passes over the training images [default: 6]
          --batch <N>           Images an update [default: 128]
          --lr <RATE>           Highest learning rate of the cycle [default: 0.004]
          --max-shift <PIXELS>  Shift images by up to so many pixels [default: 2]
          --no-flip             Do not mirror images
          --seed <N>            Seed of weights, order and shifts [default: 0]

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Example:
      fewstep features --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --pad-to 32
      --out features.safetensors
    "#);
}

#[test]
fn demo() {
    insta::assert_snapshot!(help(&["demo", "--help"]), @r#"
    Show on the built-in model what a fit buys: table, report.html

    Usage: fewstep demo [OPTIONS]

    Options:
          --json          Print the result as JSON on stdout, for scripts
          --out <FOLDER>  Folder for report.html and the results; must not exist yet [default:
                          runs/demo, or the next free runs/demo-N]
          --steps <LIST>  Numbers of steps [default: 5,8]
          --images <N>    Images a row of the table is measured on [default: 200]
          --updates <N>   Updates of the network in phase 2 [default: 30]
      -h, --help          Print help
      -V, --version       Print version

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Example:
      fewstep demo --out runs/demo
    "#);
}

#[test]
fn fit() {
    insta::assert_snapshot!(help(&["fit", "--help"]), @r#"
    Find noise levels for a budget of steps (phase 1) and tune the network for them (phase 2)

    Usage: fewstep fit [OPTIONS] --model <FILE> --out <FOLDER>

    Options:
          --json
              Print the result as JSON on stdout, for scripts

          --model <FILE>
              Model: a .safetensors file, an EDM .pkl, or fashion-mnist (built in)

          --data <PATH>
              Training images, for phase 2 and for the searches `paper` and `bound`: EDM zip, image
              folder, IDX file or folder, CIFAR-10 archive, npz of images

          --pad-to <PIXELS>
              Pad images with zeros to squares of this size (Fashion-MNIST: 32)

          --max-images <N>
              Use at most so many images

          --out <FOLDER>
              Folder of the run; must not exist yet

          --resume
              Go on with the run in --out

          --steps <LIST>
              Numbers of steps (network evaluations an image), each fitted on its own
              
              [default: 5,8]

          --phases <LIST>
              Phases to run: 1 learns the noise levels, 2 tunes the network
              
              [default: 1,2]

          --rounds <N>
              How often to alternate between the phases
              
              [default: 1]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Phase 1:
          --search <NAME>
              Where phase 1 gets its plan: least-squares, another search over a teacher (local/ipndm4,
              reachable/euler, ...: see `fewstep compare --help`), or paper
              
              [default: least-squares]

          --objective <NAME>
              What the search `paper` minimises: Eq. 11, Eq. 12, or both as in the paper

              Possible values:
              - discretization: Eq. 11
              - bound:          Eq. 12
              - joint:          Eq. 11 and gamma times Eq. 12: the paper's
              
              [default: bound]

          --gamma <GAMMA>
              Weight of the bound in the joint objective
              
              [default: 1]

          --solver <NAME>
              How phase 1 is solved; table needs the bound [default: table for the bound, else adam]

              Possible values:
              - adam:  Adam on theta with the gradient of Eq. 14
              - table: Exact dynamic programming over a table of e(sigma), every number of steps at once
                (bound only)

          --noise <NAME>
              Noise along the levels: independent or shared

              Possible values:
              - independent: Drawn afresh at every level
              - shared:      The same at every level
              
              [default: independent]

          --parameter <NAME>
              Scale in which the levels are parameterised: linear (the paper's) or log

              Possible values:
              - linear: Shares of sigma (the paper's)
              - log:    Shares of log sigma
              
              [default: log]

          --phase1-updates <N>
              Updates of the levels
              
              [default: 400]

          --phase1-batch <N>
              Images an update of the levels
              
              [default: 64]

          --phase1-lr <RATE>
              Learning rate of the levels
              
              [default: 0.02]

          --grid <N>
              Levels of the table's grid
              
              [default: 65]

          --table-images <N>
              Images of the table, each evaluated at every level
              
              [default: 256]

    Phase 2:
          --weights <NAME>
              What phase 2 learns: bound (the paper's, weights of Eq. 12), original (the EDM recipe), or
              rollout (the sampler's own states against a teacher's trajectories; needs no data)

              Possible values:
              - bound:    Eq. 12
              - original: The EDM recipe
              - rollout:  The sampler's own states against a teacher's trajectories
              
              [default: bound]

          --distance <NAME>
              Distance from the teacher, for rollout: squared, or pseudo-huber, in which no few bad
              images rule
              
              [default: squared]
              [possible values: squared, pseudo-huber]

          --trajectories <N>
              Trajectories of the teacher, for rollout
              
              [default: 512]

          --last-weight <W>
              Weight of the last level, which Eq. 12 leaves out (0: the paper's, 1: its coefficient in
              the image)
              
              [default: 1]

          --updates <N>
              Updates of the network at most
              
              [default: 1000]

          --batch <N>
              Images an update
              
              [default: 128]

          --microbatch <N>
              Images held by the graph at once [default: the batch]

          --lr <RATE>
              Learning rate of the network
              
              [default: 0.0001]

          --ema <N>
              Half-life of the weights' moving average, in images
              
              [default: 2000]

          --xflip
              Mirror images at random

    Judge:
          --held-out <N>
              Latents held out for the rollout error
              
              [default: 128]

          --teacher-steps <N>
              Noise levels of the Heun teacher (2N - 1 evaluations)
              
              [default: 18]

          --check-every <N>
              Updates between two looks at the held-out error
              
              [default: 50]

          --patience <N>
              Looks without improvement before a phase stops
              
              [default: 5]

          --no-early-stop
              Run every phase to its end and keep its last outcome, not its best

    Search:
          --search-samples <N>
              Latents that searches look at
              
              [default: 64]

          --search-grid <N>
              Noise levels that plans choose from (rho = 7 over the network's range)
              
              [default: 21]

          --search-teacher <NAME>
              Solver of the searches' teacher
              
              [default: heun]

          --teacher-parts <N>
              Steps of that teacher from one level of the grid to the next
              
              [default: 1]

          --local-metric <NAME>
              What the local search counts: l1, l2, or the deviation from the line between the teacher's
              ends (GITS)
              
              [default: deviation]
              [possible values: l1, l2, deviation]

          --history <N>
              Outputs before the newest that a fitted step may use
              
              [default: 3]

          --ridge <R>
              Strength of the ridge that draws fitted coefficients to Euler's step
              
              [default: 0.000001]

          --beam <N>
              States kept at every level and number of steps
              
              [default: 2]

          --view <NAME>
              What fitted steps make small: differences of pixels, or of the images' gradients, in which
              fine detail counts
              
              [default: pixels]
              [possible values: pixels, gradients]

          --no-calibration
              Leave fitted images as smooth as the fit makes them; otherwise they are stretched until
              their variance is the teacher's

          --no-constant
              Spend the first evaluation on the network instead of a constant image stored with the plan

          --rollout-steps <N>
              Gradient steps of methods that end in +rollout, on three quarters of the latents; the best
              by the others is kept
              
              [default: 40]

          --rollout-lr <RATE>
              Learning rate of those steps for coefficients; noise levels (in log sigma) move four times
              as fast, and plans that were not fitted five times
              
              [default: 0.001]

          --rollout-loss <NAME>
              What those steps make small: squared, or pseudo-huber, in which no few bad images rule
              
              [default: squared]
              [possible values: squared, pseudo-huber]

          --eval-batch <N>
              Images at once in evaluations
              
              [default: 64]

          --seed <N>
              Seed of data order and noise
              
              [default: 0]

    Compute:
          --device <NAME>
              auto, cpu, cuda or cuda:N
              
              [default: auto]

          --threads <N>
              Threads for one operation [default: all cores]

          --precision <TYPE>
              What the network computes in: f32, bf16 or f16
              
              [default: f32]

    Examples:
      fewstep fit --model edm-cifar10.pkl --phases 1 --steps 3,4,5,6,8,10 --out runs/plans
      fewstep fit --model edm-cifar10.pkl --data cifar10-32x32.zip --steps 5,8 --out runs/cifar10
    "#);
}

#[test]
fn train() {
    insta::assert_snapshot!(help(&["train", "--help"]), @r#"
    Train a denoiser from scratch (the EDM recipe)

    Usage: fewstep train [OPTIONS] --data <PATH> --out <FOLDER>

    Options:
          --json
              Print the result as JSON on stdout, for scripts

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Data:
          --data <PATH>
              Data set: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz of images

          --pad-to <PIXELS>
              Pad images with zeros to squares of this size (Fashion-MNIST: 32)

          --max-images <N>
              Use at most so many images

          --out <FOLDER>
              Folder of the run; must not exist yet

          --resume
              Go on with the run in --out, exactly as if it had not stopped

    Network:
          --arch <NAME>
              Network: ddpmpp, ncsnpp or adm

              Possible values:
              - ddpmpp: DDPM++
              - ncsnpp: NCSN++
              - adm:    ADM
              
              [default: ddpmpp]

          --precond <NAME>
              Preconditioning: edm, vp, ve or iddpm

              Possible values:
              - edm:   Karras et al. 2022
              - vp:    Variance preserving
              - ve:    Variance exploding
              - iddpm: Improved DDPM
              
              [default: edm]

          --cond
              Class-conditional: the network is told each image's label

          --channels <N>
              Channels at the first level
              
              [default: 128]

          --channel-mult <LIST>
              Channel factor of each level
              
              [default: 2,2,2]

          --blocks <N>
              Residual blocks a level
              
              [default: 4]

          --attention <LIST>
              Resolutions with self-attention
              
              [default: 16]

          --dropout <P>
              Dropout probability
              
              [default: 0.13]

          --label-dropout <P>
              Probability of hiding the label, for guidance
              
              [default: 0]

    Training:
          --images <N>
              Training images to see in all
              
              [default: 200000000]

          --batch <N>
              Images an update
              
              [default: 512]

          --microbatch <N>
              Images held by the graph at once [default: the batch]

          --lr <RATE>
              Learning rate after the ramp
              
              [default: 0.001]

          --lr-rampup <N>
              Images over which the learning rate rises
              
              [default: 10000000]

          --ema <N>
              Half-life of the weights' moving average, in images
              
              [default: 500000]

          --ema-rampup <RATIO>
              The half-life is at most this share of the images seen; 0 for no ramp
              
              [default: 0.05]

          --augment <P>
              Probability of the non-leaky augmentations; 0 for none
              
              [default: 0.12]

          --xflip
              Mirror images at random (only where a mirror image is as likely)

          --seed <N>
              Seed of weights, data order and noise
              
              [default: 0]

    Output:
          --save-every <N>
              Images between two saved states
              
              [default: 100000]

          --grid-every <N>
              Images between two sample grids
              
              [default: 500000]

          --half
              Store the model's weights as f16

    Compute:
          --device <NAME>
              auto, cpu, cuda or cuda:N
              
              [default: auto]

          --threads <N>
              Threads for one operation [default: all cores]

          --precision <TYPE>
              What the network computes in: f32, bf16 or f16
              
              [default: f32]

    Example:
      fewstep train --data fashion-mnist/ --pad-to 32 --out runs/fashion --channels 32 --channel-mult
      1,2,2 --blocks 2 --attention 8 --images 500000
    "#);
}

#[test]
fn colour_is_off_where_it_is_unwanted() {
    // `Place::run` asserts that there are no escape codes.
    for env in [&[("NO_COLOR", "1")][..], &[("TERM", "xterm-256color")]] {
        let place = Place::new();
        for args in [&["--help"][..], &["sample"], &["info", "nowhere"]] {
            place.run_with(args, env);
        }
    }
}

#[test]
fn compare() {
    insta::assert_snapshot!(help(&["compare", "--help"]), @r#"
    Compare models, methods and numbers of evaluations: table, csv, json, report.html

    Usage: fewstep compare [OPTIONS] --out <FOLDER>

    Options:
          --json             Print the result as JSON on stdout, for scripts
          --model <LIST>     Models: .safetensors files, EDM .pkl files, or fashion-mnist (built in)
                             [default: fashion-mnist]
          --ref <LIST>       For every model, statistics of what it should make (`fewstep ref`); needed
                             for all but the built-in one
          --features <LIST>  For every model, the feature network of its statistics; needed for all but
                             the built-in one
          --resize <NAME>    How Inception's images are resized: tf1 (EDM, torch-fidelity) or
                             pytorch-fid [default: tf1]
          --methods <LIST>   Methods, SEARCH/SOLVER: a schedule (karras, log_snr, vp, ve, iddpm, cosine,
                             time_uniform), local (GITS; local@1.15 with a coefficient of your own),
                             reachable (OSS), bound (the paper's), or least-squares; +rollout after any
                             refines it
          --steps <LIST>     Numbers of network evaluations an image [default: 3-10]
          --out <FOLDER>     Folder of the run; must not exist yet
          --resume           Go on with the comparison in --out, adding methods and steps
      -h, --help             Print help
      -V, --version          Print version

    Judge:
          --images <N>         Images a cell and seed range [default: 5000]
          --seed-ranges <N>    Ranges of seeds, one after the other; the table shows mean and standard
                               deviation [default: 1]
          --first-seed <N>     First seed [default: 0]
          --held-out <N>       Latents held out for the rollout error [default: 256]
          --teacher-steps <N>  Noise levels of the Heun teacher in the table (2N - 1 evaluations)
                               [default: 18]
          --data <PATH>        Training images, for the method bound
          --pad-to <PIXELS>    Pad the training images to squares of this size
          --table-images <N>   Training images for the table of the method bound [default: 256]

    Search:
          --search-samples <N>     Latents that searches look at [default: 64]
          --search-grid <N>        Noise levels that plans choose from (rho = 7 over the network's
                                   range) [default: 21]
          --search-teacher <NAME>  Solver of the searches' teacher [default: heun]
          --teacher-parts <N>      Steps of that teacher from one level of the grid to the next
                                   [default: 1]
          --local-metric <NAME>    What the local search counts: l1, l2, or the deviation from the line
                                   between the teacher's ends (GITS) [default: deviation] [possible
                                   values: l1, l2, deviation]
          --history <N>            Outputs before the newest that a fitted step may use [default: 3]
          --ridge <R>              Strength of the ridge that draws fitted coefficients to Euler's step
                                   [default: 0.000001]
          --beam <N>               States kept at every level and number of steps [default: 2]
          --view <NAME>            What fitted steps make small: differences of pixels, or of the
                                   images' gradients, in which fine detail counts [default: pixels]
                                   [possible values: pixels, gradients]
          --no-calibration         Leave fitted images as smooth as the fit makes them; otherwise they
                                   are stretched until their variance is the teacher's
          --no-constant            Spend the first evaluation on the network instead of a constant image
                                   stored with the plan
          --rollout-steps <N>      Gradient steps of methods that end in +rollout, on three quarters of
                                   the latents; the best by the others is kept [default: 40]
          --rollout-lr <RATE>      Learning rate of those steps for coefficients; noise levels (in log
                                   sigma) move four times as fast, and plans that were not fitted five
                                   times [default: 0.001]
          --rollout-loss <NAME>    What those steps make small: squared, or pseudo-huber, in which no
                                   few bad images rule [default: squared] [possible values: squared,
                                   pseudo-huber]
          --batch <N>              Images at once [default: 64]

    Compute:
          --device <NAME>     auto, cpu, cuda or cuda:N [default: auto]
          --threads <N>       Threads for one operation [default: all cores]
          --precision <TYPE>  What the network computes in: f32, bf16 or f16 [default: f32]

    Examples:
      fewstep compare --steps 4,5,6 --images 1000 --out runs/compare
      fewstep compare --model edm-cifar10.pkl --ref cifar10.npz --features inception.safetensors \
          --methods least-squares,local@1.15/ipndm4,karras/unipc3_bh2 --steps 3-10 --images 50000 --out
          runs/cifar10
    "#);
}

#[test]
fn export() {
    insta::assert_snapshot!(help(&["export", "--help"]), @r#"
    Write a plan in the form that another tool takes

    Usage: fewstep export [OPTIONS] --to <TOOL> <PLAN>

    Arguments:
      <PLAN>
              Plan file

    Options:
          --json
              Print the result as JSON on stdout, for scripts

          --to <TOOL>
              Who is to read it

              Possible values:
              - comfyui:              ComfyUI: the string for a ManualSigmas node, and which sampler to
                choose
              - k-diffusion:          k-diffusion: a Python call
              - diffusers-euler:      diffusers, EulerDiscreteScheduler: Python lines
              - diffusers-edm-euler:  diffusers, EDMEulerScheduler: Python lines
              - diffusers-flow-euler: diffusers, FlowMatchEulerDiscreteScheduler: Python lines
              - diffusers-heun:       diffusers, HeunDiscreteScheduler, told timesteps: Python lines
              - diffusers-dpmpp:      diffusers, DPMSolverMultistepScheduler, told whole timesteps:
                Python lines
              - stable-diffusion.cpp: stable-diffusion.cpp: command-line options
              - diff-sampler:         diff-sampler: command-line options
              - python:               Python: a sampler in one file that runs any plan with any denoiser
                (plan_sampler.py)
              - json:                 The plan itself, with every state in the latent and the outputs
                (Eq. 8)
              - csv:                  A table of noise levels and coefficients

          --nearest
              Where the tool cannot express the plan, give it the plan's noise levels for its own solver

          --model <MODEL>
              With --nearest, measure on this model what that costs

          --held-out <N>
              Latents that the cost is measured on
              
              [default: 64]

          --out <FILE>
              Write into this file instead of to stdout

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    diffusers:
          --betas <TABLE>
              Noise table of the model: linear:START:END, scaled-linear:START:END or cosine, and :STEPS
              after it if not 1000
              
              [default: scaled-linear:0.00085:0.012]

          --shift <K>
              Time shift of the model, for flow matching
              
              [default: 1]

    Compute:
          --device <NAME>
              auto, cpu, cuda or cuda:N
              
              [default: auto]

          --threads <N>
              Threads for one operation [default: all cores]

          --precision <TYPE>
              What the network computes in: f32, bf16 or f16
              
              [default: f32]

    Examples:
      fewstep export runs/plans/steps-008/plan.json --to comfyui --nearest
      fewstep export plan.json --to diffusers-dpmpp --betas scaled-linear:0.00085:0.012 --nearest
      fewstep export plan.json --to python --out plan_sampler.py
    "#);
}
