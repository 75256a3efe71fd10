//! TorchScript archives: tensors are read, the program beside them is not.

use fewstep_io::torch_zip;

use crate::testdata;

#[test]
fn tensors_of_nested_modules_get_their_state_dict_names() {
    let tensors = torch_zip::read(testdata("torchscript").join("tiny.pt")).unwrap();
    assert_eq!(tensors["block.0.weight"].to_f32(), [0.5, -2.0]);
    assert_eq!(tensors["block.0.weight"].shape, [2, 1, 1, 1]);
    assert_eq!(tensors["block.1.running_mean"].to_f32(), [1.0, 2.0]);
    assert!(tensors.contains_key("block.1.num_batches_tracked"));
}
